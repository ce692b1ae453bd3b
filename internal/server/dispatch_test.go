package server

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/command"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/session"
	"github.com/cairndb/cairn/internal/wire"
)

// standalone is the part of the node's face that a command without writes touches.
type standalone struct{ command.Repl }

func (standalone) SetName() string { return "" }

func testNode(rows ...command.Command) *command.Node {
	return &command.Node{
		Table: command.NewTable(rows), Ops: session.NewOperations(), Sessions: session.NewSessions(), Params: command.NewParameters(), Repl: standalone{},
		Fail: command.NewFailPoints(), Log: slog.New(slog.DiscardHandler), Clock: time.Now,
	}
}

func TestCommandsHandler(t *testing.T) {
	docs := []command.Arg{{Name: "documents", Types: command.TArray}, {Name: "updates", Types: command.TArray}}
	node := testNode(
		command.Command{Name: "ping", Run: func(*command.Ctx) error { return nil }},
		command.Command{Name: "fail", Run: func(c *command.Ctx) error {
			c.Reply.Array("half").Int32("", 1)
			return mongoerr.New(mongoerr.BadValue, "no")
		}},
		command.Command{Name: "count", Args: docs, Run: func(c *command.Ctx) error {
			for _, name := range []string{"documents", "updates"} {
				list, err := c.ArgDocs(name)
				if err != nil {
					return err
				}
				sum := int64(0)
				for _, d := range list {
					sum += d.Get("n").Int64()
				}
				c.Reply.Int64(name, sum)
			}
			return nil
		}},
		command.Command{Name: "more", Flags: command.Exhaust, Run: func(c *command.Ctx) error {
			_, n := c.Body.First()
			c.Reply.Append("n", n)
			if n.Int32() < 3 && c.ExhaustOK {
				c.Result.Next = bson.D("more", n.Int32()+1, "$db", "a")
			}
			return nil
		}},
	)
	s := start(t, Config{Handler: Commands{Node: node}})
	c := dial(t, s)
	if d := c.run(wire.Msg{Body: ping}).Doc; d.Get("ok").Double() != 1 {
		t.Error(d)
	}
	if d := c.run(wire.Msg{Body: bson.D("fail", 1, "$db", "a")}).Doc; d.Get("code").Int32() != 2 || d.Has("half") {
		t.Error(d)
	}
	if d := c.run(wire.Msg{Body: bson.D("what", 1, "$db", "a")}).Doc; d.Get("code").Int32() != 59 {
		t.Error(d)
	}
	for _, n := range []int{1, 3, maxKeptDocs * 2, 2} {
		a, b := make([]bson.Raw, n), make([]bson.Raw, n)
		for i := range n {
			a[i], b[i] = bson.D("n", int64(i)), bson.D("n", int64(-i))
		}
		d := c.run(wire.Msg{Body: bson.D("count", "c", "$db", "a"), Sequences: []wire.Docs{{ID: "documents", Docs: a}, {ID: "updates", Docs: b}}}).Doc
		want := int64(n*(n-1)) / 2
		if d.Get("documents").Int64() != want || d.Get("updates").Int64() != -want {
			t.Errorf("%d: %v", n, d)
		}
	}
	c.send((&wire.Msg{Body: bson.D("more", int32(1), "$db", "a"), ExhaustAllowed: true}).Append(nil))
	for n := int32(1); n <= 3; n++ {
		if a := c.recv(); a.Doc.Get("n").Int32() != n || a.MoreToCome != (n < 3) {
			t.Fatal(a)
		}
	}
}

// BenchmarkPingCommand is BenchmarkInProcess with the real command table.
func BenchmarkPingCommand(b *testing.B) {
	node := testNode(command.Command{Name: "ping", Flags: command.Quiet, Run: func(*command.Ctx) error { return nil }})
	log := newLog()
	s, err := New(Config{Handler: Commands{Node: node}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Shutdown(context.Background())
	c := newConn(s, discardConn{})
	msg := (&wire.Msg{Body: bson.D("ping", 1, "lsid", bson.D("id", bson.UUID{1}), "$db", "admin")}).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.serveMessage(msg); err != nil {
			b.Fatal(err)
		}
	}
	if n := node.Counters.Asserts.User.Load(); n != 0 || log.b.Len() != 0 {
		b.Fatalf("%d errors %s", n, log.b.String())
	}
}
