package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// shapes load about size bytes of documents and return how many it were.
var shapes = map[string]func(ctx context.Context, db *mongo.Database, size int64) (int64, error){
	"big": func(ctx context.Context, db *mongo.Database, size int64) (int64, error) {
		return fill(ctx, db.Collection("big"), size, kilobyte)
	},
	"small": func(ctx context.Context, db *mongo.Database, size int64) (total int64, err error) {
		for i := range 200 {
			n, err := fill(ctx, db.Collection("c"+strconv.Itoa(i)), size/200, kilobyte)
			if total += n; err != nil {
				return total, err
			}
		}
		return total, nil
	},
	"wide": func(ctx context.Context, db *mongo.Database, size int64) (int64, error) {
		return fill(ctx, db.Collection("wide"), size, func(r *rand.Rand, id int) bson.D {
			d := bson.D{{Key: "_id", Value: id}}
			for f := range 1500 {
				d = append(d, bson.E{Key: "field" + strconv.Itoa(f), Value: r.Int64N(1 << 40)})
			}
			return d
		})
	},
	"indexes": func(ctx context.Context, db *mongo.Database, size int64) (int64, error) {
		c := db.Collection("indexed")
		var models []mongo.IndexModel
		for _, k := range []string{"name", "mail", "age", "score", "city", "tags", "at", "n1", "n2"} {
			models = append(models, mongo.IndexModel{Keys: bson.D{{Key: k, Value: 1}, {Key: "_id", Value: 1}}})
		}
		if _, err := c.Indexes().CreateMany(ctx, models); err != nil {
			return 0, err
		}
		return fill(ctx, c, size, kilobyte)
	},
}

var words = []string{"amber", "basalt", "cairn", "delta", "estuary", "flint", "granite", "heath", "isle", "jetty", "knoll", "loch", "moor", "ness", "outcrop", "peak"}

// vocabulary is made of syllables, the same every time.
var vocabulary = func() (l []string) {
	syllables := []string{"ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "qui", "ro", "su", "ta", "ve", "wi", "xo", "yu", "ster", "land", "ing", "ton"}
	r := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // the same words every time
	for range 5000 {
		w := ""
		for range 1 + r.IntN(4) {
			w += syllables[r.IntN(len(syllables))]
		}
		l = append(l, w)
	}
	return l
}()

// kilobyte makes a document of about 1 KB, of which a compressor makes about a quarter.
func kilobyte(r *rand.Rand, id int) bson.D {
	word := func() string { return words[r.IntN(len(words))] }
	d := bson.D{
		{Key: "_id", Value: bson.NewObjectID()},
		{Key: "name", Value: word() + " " + word()}, {Key: "mail", Value: fmt.Sprintf("%s.%d@example.org", word(), r.IntN(1<<30))},
		{Key: "age", Value: int32(r.IntN(100))}, {Key: "score", Value: r.Float64()}, {Key: "city", Value: word()},
		{Key: "tags", Value: bson.A{word(), word(), word()}}, {Key: "at", Value: bson.DateTime(1_700_000_000_000 + r.Int64N(1<<34))},
		{Key: "n1", Value: r.Int64()}, {Key: "n2", Value: int32(id)},
	}
	return append(d, bson.E{Key: "text", Value: text(r, 690)})
}

// text has at least n bytes: a vocabulary of some thousand words, of which a few are frequent,
// as in prose.
func text(r *rand.Rand, n int) string {
	b := make([]byte, 0, n+30)
	for len(b) < n {
		w := int(float64(len(vocabulary)) * math.Pow(r.Float64(), 3))
		b = append(append(b, vocabulary[w]...), ' ')
	}
	return string(b)
}

func fill(ctx context.Context, c *mongo.Collection, size int64, doc func(*rand.Rand, int) bson.D) (int64, error) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same data every time
	var total int64
	for id := 0; total < size; {
		var batch []any
		for bytes := int64(0); bytes < 4<<20 && total < size; id++ {
			raw, err := bson.Marshal(doc(r, id))
			if err != nil {
				return total, err
			}
			batch = append(batch, raw)
			bytes += int64(len(raw))
			total += int64(len(raw))
		}
		if _, err := c.InsertMany(ctx, batch, options.InsertMany().SetOrdered(false)); err != nil {
			return total, err
		}
	}
	return total, nil
}

// replayed is how many collections the entries are of.
const replayed = 4

// writeOplog writes a dump that has nothing but an oplog: half inserts, the rest updates. pad is
// how many bytes the documents have more than they need.
func writeOplog(dir, db string, entries, pad int) (int64, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return 0, err
	}
	f, err := os.Create(filepath.Join(dir, "oplog.bson"))
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	r := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same data every time
	now := uint32(time.Now().Unix())
	var total int64
	for n := range entries + replayed {
		entry := func(ns, op string, o bson.D) bson.D {
			return bson.D{
				{Key: "ts", Value: bson.Timestamp{T: now, I: uint32(n + 1)}}, {Key: "t", Value: int64(1)}, {Key: "v", Value: int64(2)},
				{Key: "wall", Value: bson.DateTime(int64(now) * 1000)}, {Key: "ns", Value: ns}, {Key: "op", Value: op}, {Key: "o", Value: o},
			}
		}
		// First the collections, then inserts and updates of what was inserted in turn.
		var e bson.D
		id := (n - replayed) / 2
		coll := "replay" + strconv.Itoa(id%replayed)
		switch {
		case n < replayed:
			e = entry(db+".$cmd", "c", bson.D{{Key: "create", Value: "replay" + strconv.Itoa(n)}})
		case (n-replayed)%2 == 0:
			o := bson.D{{Key: "_id", Value: id}, {Key: "name", Value: words[n%16]}, {Key: "age", Value: int32(n % 90)}}
			if pad > 0 {
				o = append(o, bson.E{Key: "pad", Value: text(r, pad)})
			}
			e = entry(db+"."+coll, "i", o)
		default:
			older := id - replayed*r.IntN(id/replayed+1)
			e = append(entry(db+"."+coll, "u", bson.D{{Key: "$v", Value: int32(2)}, {Key: "diff", Value: bson.D{{Key: "u", Value: bson.D{{Key: "age", Value: int32(r.IntN(90))}}}}}}),
				bson.E{Key: "o2", Value: bson.D{{Key: "_id", Value: older}}})
		}
		raw, err := bson.Marshal(e)
		if err != nil {
			return total, err
		}
		total += int64(len(raw))
		if _, err := w.Write(raw); err != nil {
			return total, err
		}
	}
	if err := w.Flush(); err != nil {
		return total, err
	}
	return total, f.Close()
}

// server is a cairn that this program started.
type server struct {
	uri string
	cmd *exec.Cmd
}

var listening = regexp.MustCompile(`Waiting for connections on port (\d+)`)

func startServer(binary, dir string) (*server, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	s := &server{cmd: exec.Command(binary, "serve", "--dbpath", dir, "--port", "0", "--replSet", "rs", "--replSetAutoInitiate")}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			s.uri = "mongodb://127.0.0.1:" + m[1] + "/?directConnection=true"
			go func() {
				for lines.Scan() { // the pipe must not fill up
				}
			}()
			return s, nil
		}
	}
	return nil, fmt.Errorf("%s did not start", binary)
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}
