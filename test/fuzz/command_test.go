package fuzz

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/node"
)

// patience is how long a command may take: it says how to find one that hangs.
const patience = 20 * time.Second

// target is the node that is shot at.
type target struct {
	n        *node.Node
	runs, ok int
}

func (tg *target) start() (err error) {
	tg.n, err = node.Start(context.Background(), node.Config{InMemory: true, Embedded: true, NoUnixSocket: true, NoTCP: true, ReplSet: "rs0", ReplSetAutoInitiate: true,
		CacheBytes: 16 << 20, OplogBytes: 16 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx := context.Background()
	for _, cmd := range []bson.Raw{
		bson.D("create", "capped", "capped", true, "size", 4096),
		bson.D("createIndexes", "c", "indexes", bson.A(bson.D("key", bson.D("a", 1), "name", "a_1"), bson.D("key", bson.D("t", 1, "b", -1), "name", "t_1_b_-1"))),
		bson.D("insert", "c", "documents", bson.A(bson.D("_id", 1, "a", 1, "b", bson.D("c", 1), "t", bson.A(1, 2, bson.D("b", 3)), "s", "abc"),
			bson.D("_id", 2, "a", 2.5, "t", bson.A(), "s", "x y"), bson.D("_id", 3, "a", nil, "x", bson.A(1, 2), "n", int64(7)), bson.D("_id", "four", "a", "str"))),
		bson.D("insert", "d", "documents", bson.A(bson.D("a", 1), bson.D("a", 2))),
		bson.D("insert", "capped", "documents", bson.A(bson.D("a", 1))),
	} {
		if _, err := tg.n.Run(ctx, "test", cmd); err != nil {
			return errors.Join(err, tg.n.Close())
		}
	}
	return nil
}

// run sends one command and judges the reply. A node is replaced now and then, so
// that what a failure needs is not far back.
func (tg *target) run(cmd bson.Raw) error {
	if tg.n == nil || tg.runs%2000 == 0 {
		if err := tg.close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		if err := tg.start(); err != nil {
			return err
		}
	}
	tg.runs++
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // for those that wait by right
	defer cancel()
	watch := time.AfterFunc(patience, func() {
		fmt.Fprintln(os.Stderr, "hangs:", extjson.String(cmd))
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
	})
	reply, err := tg.n.Run(ctx, "test", cmd)
	if !watch.Stop() {
		return fmt.Errorf("took over %v", patience)
	}
	if reply == nil {
		// The connection ended. Of fail points, which are off, and shutdown only the latter does it.
		if name, _ := cmd.First(); name == "shutdown" && mongoerr.Is(err, mongoerr.HostUnreachable) {
			return tg.close()
		}
		return err
	}
	if v, _ := reply.Get("ok").AsFloat64(); v == 1 {
		tg.ok++
	}
	if err := judge(reply); err != nil {
		return fmt.Errorf("%w\nreply %s", err, extjson.String(reply))
	}
	return tg.unlock(cmd)
}

// unlock takes back what would make the commands to come wait.
func (tg *target) unlock(cmd bson.Raw) error {
	if name, _ := cmd.First(); name != "fsync" {
		return nil
	}
	for {
		r, err := tg.n.Run(context.Background(), "admin", bson.D("fsyncUnlock", 1))
		if n, _ := r.Get("lockCount").AsInt64(); err != nil || n == 0 {
			return nil
		}
	}
}

func (tg *target) close() error {
	n := tg.n
	tg.n = nil
	if n == nil {
		return nil
	}
	return n.Close()
}

// judge says what is wrong with a reply.
func judge(reply bson.Raw) error {
	if err := bson.Validate(reply, 400); err != nil {
		return fmt.Errorf("malformed reply: %w", err)
	}
	ok, isNumber := reply.Get("ok").AsFloat64()
	if !isNumber || (ok != 0 && ok != 1) {
		return errors.New("a reply without ok")
	}
	if ok == 0 {
		return judgeError(reply)
	}
	for v := range reply.Get("writeErrors").Doc().Values() {
		if code, _ := v.Doc().Get("code").AsInt64(); code <= 1 || v.Doc().Get("errmsg").Str() == "" {
			return errors.New("a writeError without code or text, or an internal one")
		}
	}
	return nil
}

func judgeError(reply bson.Raw) error {
	code, isNumber := reply.Get("code").AsInt64()
	switch {
	case !isNumber || code <= 0:
		return errors.New("an error without a code")
	case reply.Get("codeName").Str() == "" || reply.Get("errmsg").Str() == "":
		return errors.New("an error without a name or a text")
	case code == 1:
		return errors.New("an internal error")
	}
	return nil
}

// FuzzCommand takes a document as it comes or, if it is none, changes one of the
// seeds by a random source.
func FuzzCommand(f *testing.F) {
	list := seeds()
	p := newPool(list)
	tg := &target{}
	f.Cleanup(func() {
		if err := tg.close(); err != nil {
			f.Error(err)
		}
	})
	for i, s := range list {
		f.Add([]byte(s), uint16(i), uint64(0))
		f.Add([]byte{}, uint16(i), uint64(i))
	}
	f.Fuzz(func(t *testing.T, doc []byte, base uint16, source uint64) {
		cmd := bson.Raw(doc)
		if bson.Validate(doc, bson.MaxDepth) != nil {
			rng := rand.New(rand.NewPCG(source, uint64(base)))
			m := &mutator{pool: p, rng: rng, rate: 3 + rng.IntN(80)}
			cmd = m.command(list[int(base)%len(list)])
			if bson.Validate(cmd, bson.MaxDepth) != nil {
				return
			}
		}
		if err := tg.run(cmd); err != nil {
			t.Fatalf("%s\n%v", extjson.String(cmd), err)
		}
	})
}

var (
	commands = flag.Uint64("commands", 20_000, "how many random commands TestCommands runs")
	source   = flag.Uint64("source", 0, "the first random source; 0 takes a new one")
)

// TestCommands runs random ones; a failure names its two numbers.
func TestCommands(t *testing.T) {
	list := seeds()
	p := newPool(list)
	tg := &target{}
	from := *source
	if from == 0 {
		from = rand.Uint64()
	}
	t.Logf("source %d", from)
	for i := range *commands {
		base, source := uint16(i%uint64(len(list))), from+i
		rng := rand.New(rand.NewPCG(source, uint64(base)))
		m := &mutator{pool: p, rng: rng, rate: 3 + rng.IntN(80)}
		cmd := m.command(list[base])
		if bson.Validate(cmd, bson.MaxDepth) != nil {
			continue
		}
		if err := tg.run(cmd); err != nil {
			t.Fatalf("base %d, source %d: %s\n%v", base, source, extjson.String(cmd), err)
		}
	}
	if err := tg.close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d of %d commands were accepted", tg.ok, tg.runs)
	if tg.ok < tg.runs/20 {
		t.Error("too few to show anything")
	}
}
