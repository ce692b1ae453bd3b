package dump

import (
	"bytes"
	stdgzip "compress/gzip"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// The texts are the original's, and so is their order.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		args     string
		original string // "": accepted
		cairn    string // where it differs: "-" accepted
	}{
		{"", "", ""},
		{"-o -", "can only dump a single collection to stdout", ""},
		{"-c c", "cannot dump a collection without a specified database", ""},
		{"-d d -q {}", "cannot dump using a query without a specified collection", ""},
		{"-d d --queryFile f", "cannot dump using a queryFile without a specified collection", ""},
		{"-d d -c c -q {} --queryFile f", "either query or queryFile can be specified as a query option, not both", ""},
		{"-d d -c c -q {} --forceTableScan", "cannot use --forceTableScan when specifying --query", ""},
		{"--dumpDbUsersAndRoles", "must specify a database when running with dumpDbUsersAndRoles", ""},
		{"-d d -c c --dumpDbUsersAndRoles", "cannot specify a collection when running with dumpDbUsersAndRoles", ""},
		{"-d d -c system.buckets.x", "cannot specify a system.buckets collection in --collection. Specifying the timeseries collection will dump the system.buckets collection", ""},
		{"-d d --oplog", "--oplog mode only supported on full dumps", "-"},
		{"-d d -c c --excludeCollection x", "--collection is not allowed when --excludeCollection is specified", ""},
		{"-d d -c c --excludeCollectionsWithPrefix x", "--collection is not allowed when --excludeCollectionsWithPrefix is specified", ""},
		{"--excludeCollection x", "--db is required when --excludeCollection is specified", ""},
		{"--excludeCollectionsWithPrefix x", "--db is required when --excludeCollectionsWithPrefix is specified", ""},
		{"-o x --archive=y", "--out not allowed when --archive is specified", ""},
		{"-d d -c c -o - --gzip", "compression can't be used when dumping a single collection to standard output", ""},
		{"-j 0", "numParallelCollections must be positive", ""},
		{"-j 4 -d d -c c -q {} --gzip --archive", "", ""},
	} {
		for _, original := range []bool{true, false} {
			o, err := ParseOptions(strings.Fields(c.args), original, "test", "")
			if err != nil {
				t.Errorf("%s: %v", c.args, err)
				continue
			}
			want, got := c.original, ""
			if !original && c.cairn == "-" {
				want = ""
			}
			if err := o.validate(false); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%s: %q, want %q", c.args, got, want)
			}
		}
	}
	atlas, err := ParseOptions([]string{"-d", "admin"}, true, "test", "")
	if err != nil || atlas.validate(true) == nil {
		t.Errorf("admin of an Atlas proxy: %v", err)
	}
}

func TestValidateBeyond(t *testing.T) {
	for args, want := range map[string]string{
		"--compress lzma":                         "unknown compression method `lzma`: --compress takes zstd, snappy, gzip or none",
		"--compress zstd --gzip":                  "--gzip not allowed when --compress is specified with another method",
		"--compress gzip --gzip":                  "",
		"-d d -c c -o - --compress zstd":          "compression can't be used when dumping a single collection to standard output",
		"-d d -c c -o - --oplog":                  "--oplog not allowed when dumping a single collection to standard output",
		"-d d -c c --oplog -q {}":                 "--oplog not allowed when --query is specified: the oplog cannot be filtered by a query",
		"-d d --oplog --viewsAsCollections":       "--oplog not allowed when --viewsAsCollections is specified: a view has no oplog entries",
		"--strict-oplog":                          "--strict-oplog requires --oplog",
		"--strict-oplog --oplog -d d":             "--oplog mode only supported on full dumps",
		"--parallelInCollection 0":                "parallelInCollection must be positive",
		"--archive --manifest":                    "--manifest not allowed when dumping to standard output: there is no place for it",
		"--archive=x --resume":                    "--resume requires a directory: an archive is one stream that cannot be taken up in the middle",
		"--oplog --manifest --resume -j 2 -o dir": "",
	} {
		o, err := ParseOptions(strings.Fields(args), false, "test", "")
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		got := ""
		if err := o.validate(false); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
	for _, flag := range []string{"--compress=zstd", "--manifest", "--resume", "--strict-oplog", "--parallelInCollection=2", "--tls"} {
		if _, err := ParseOptions([]string{flag}, true, "test", ""); err == nil || !strings.Contains(err.Error(), "unknown option") {
			t.Errorf("mongodump takes %s: %v", flag, err)
		}
	}
}

// Streams written at the same time come out whole, for the standard readers.
func TestCompressor(t *testing.T) {
	open := map[method]func(io.Reader) (io.Reader, error){
		methodGzip: func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) },
		methodZstd: func(r io.Reader) (io.Reader, error) {
			z, err := zstd.NewReader(r)
			return z, err
		},
		methodSnappy: func(r io.Reader) (io.Reader, error) { return snappy.NewReader(r), nil },
	}
	for m, open := range open {
		c := newCompressor(m, 2)
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(n), 1)) //nolint:gosec // repeatable
				data := make([]byte, []int{0, 1, compressBlock, compressBlock + 1, 3*compressBlock + 77}[n%5])
				for i := range data {
					data[i] = byte(r.IntN(4))
				}
				var out bytes.Buffer
				s := c.stream(&out)
				for p := data; len(p) > 0; {
					k := min(len(p), 1+r.IntN(300_000))
					if _, err := s.Write(p[:k]); err != nil {
						t.Error(err)
					}
					p = p[k:]
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				z, err := open(&out)
				if err != nil {
					t.Errorf("%d: %v", m, err)
					return
				}
				if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s of %d bytes: %d came back, %v", m.suffix(), len(data), len(got), err)
				}
			})
		}
		wg.Wait()
		// An abandoned stream gives its blocks back; the next one finds room.
		s := c.stream(io.Discard)
		if _, err := s.Write(make([]byte, 5*compressBlock)); err != nil {
			t.Error(err)
		}
		s.abort()
		if len(c.slots) != 0 {
			t.Errorf("%d slots are taken", len(c.slots))
		}
		if _, err := s.Write([]byte("x")); err == nil {
			t.Error("an abandoned stream was written to")
		}
		c.close()
	}
}

// A writer that fails is an error of the stream, not a panic or a stall.
func TestCompressorFails(t *testing.T) {
	c := newCompressor(methodZstd, 2)
	defer c.close()
	s := c.stream(failing{})
	for range 20 {
		if _, err := s.Write(make([]byte, compressBlock)); err != nil {
			break
		}
	}
	if err := s.Close(); err != io.ErrClosedPipe {
		t.Errorf("Close says %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// The metadata files of a real dump come out byte for byte when they are made again.
func TestMetadataBytes(t *testing.T) {
	names, err := filepath.Glob("testdata/*.metadata.json")
	if err != nil || len(names) < 5 {
		t.Fatalf("%v %v", names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var doc bson.Raw
		if err := bson.UnmarshalExtJSON(text, true, &doc); err != nil {
			t.Fatal(err)
		}
		var m metadata
		if err := bson.Unmarshal(doc, &m); err != nil {
			t.Fatal(err)
		}
		got, err := encodeMetadata(m)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, text)
		}
	}
	if _, err := encodeMetadata(metadata{Options: mustRaw(t, bson.D{{Key: "$numberInt", Value: "x"}})}); err == nil {
		t.Error("metadata that would not come back were accepted")
	}
}

func mustRaw(t *testing.T, d bson.D) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIntentOrder(t *testing.T) {
	m := newManager()
	for _, i := range []*intent{{db: "d", coll: "small", size: 1}, {db: "d", coll: "view", kind: "view"}, {db: "d", coll: "big", size: 9}, {db: "d", coll: "other", size: 1},
		{coll: "oplog"}, {db: "admin", coll: "system.users"}, {db: "d", coll: "$admin.system.roles"}, {db: "d", coll: "big"}} {
		m.put(i)
	}
	order := func(longest bool) string {
		var l []string
		m.start(longest)
		for i := m.pop(); i != nil; i = m.pop() {
			l = append(l, i.coll)
		}
		return strings.Join(l, " ")
	}
	if got := order(true); got != "view big small other" {
		t.Error(got)
	}
	if got := order(false); got != "small view big other" {
		t.Error(got)
	}
	if m.oplog == nil || m.users == nil || m.roles == nil || len(m.all()) != 7 {
		t.Errorf("%+v", m)
	}
}

func TestSkipSystem(t *testing.T) {
	for ns, want := range map[string]bool{"d.system.js": false, "d.system.views": true, "d.system.buckets.x": true, "d.system.profile": true, "admin.system.keys": true,
		"admin.system.users": false, "config.chunks": false, "config.transactions": true, "d.a$b": true, "d.normal": false, "local.oplog.$main": true} {
		db, coll, _ := strings.Cut(ns, ".")
		if got := skipSystem(db, coll, ""); got != want {
			t.Errorf("%s: %v", ns, got)
		}
	}
	if skipSystem("config", "transactions", "config") {
		t.Error("--db=config leaves something out")
	}
}

// After an interruption reading goes on behind the last document that was handed out.
func TestSkipper(t *testing.T) {
	doc := func(id int) []byte { return mustRaw(t, bson.D{{Key: "_id", Value: id}}) }
	last := newChunk()
	for _, id := range []int{5, 6, 7} {
		last.buf = append(last.buf, doc(id)...)
		last.docs++
	}
	s := &scan{last: last, sent: 7}
	k := s.seen()
	var got []int32
	for _, id := range []int{1, 2, 5, 7, 8, 9} { // 6 was deleted, 3 and 4 too
		if d := doc(id); !k.drop(d) {
			got = append(got, bson.Raw(d).Lookup("_id").Int32())
		}
	}
	if len(got) != 2 || got[0] != 8 || !k.found {
		t.Errorf("went on with %v", got)
	}
	k = s.seen()
	for _, id := range []int{1, 2, 8} { // none of the last ones is there
		if !k.drop(doc(id)) {
			t.Errorf("%d was taken without knowing where", id)
		}
	}
	if k.found {
		t.Error("found")
	}
	s.sent = 3 // everything that was handed out is known
	if k = s.seen(); k.drop(doc(8)) {
		t.Error("8 was left out")
	}
}
