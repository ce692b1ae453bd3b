package command

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/session"
)

// standaloneRepl is the face of a server that is in no replica set.
type standaloneRepl struct{ Repl }

func (standaloneRepl) SetName() string { return "" }
func (standaloneRepl) Initiated() bool { return false }

// localClient is a connection that nobody is behind.
type localClient struct{ Client }

func (localClient) ID() int64          { return 1 }
func (localClient) RemoteAddr() string { return "127.0.0.1:1" }
func (localClient) Metadata() bson.Raw { return nil }

func commandNode(groups ...[]Command) *Node {
	return &Node{
		Table: NewTable(groups...), Ops: session.NewOperations(), Sessions: session.NewSessions(), Params: NewParameters(), Repl: standaloneRepl{},
		Fail: NewFailPoints(), Log: slog.New(slog.DiscardHandler), Clock: time.Now,
	}
}

func runCommand(n *Node, body bson.Raw) bson.Raw {
	reply := bson.NewBuilder(nil)
	n.Handle(context.Background(), localClient{}, Request{Body: body}, reply)
	return reply.Finish()
}

// replayLog notes what it is to apply and refuses what is bad.
type replayLog struct{ applied *[]string }

func (r replayLog) Apply(_ context.Context, e *oplog.Entry) error {
	if e.O.Has("bad") {
		return mongoerr.New(mongoerr.BadValue, "bad")
	}
	*r.applied = append(*r.applied, e.Op.String()+" "+e.NS)
	return nil
}

func (replayLog) Finish(context.Context) error { return nil }
func (replayLog) Close()                       {}
func (replayLog) Future() *oplog.Future        { return nil }

func TestApplyOps(t *testing.T) {
	n := commandNode(writeCommands)
	var applied []string
	n.HasCollection = func(db, coll string) bool { return db == "d" && coll == "c" }
	n.NewReplay = func(bool) Replay { return replayLog{&applied} }
	op := func(kv ...any) bson.Raw { return bson.D(kv...) }
	insert := op("op", "i", "ns", "d.c", "o", bson.D("_id", 1))
	ui := bson.UUID{1}
	for name, tc := range map[string]struct {
		cmd     []any // behind the name
		ops     any
		code    mongoerr.Code
		msg     string
		results string // of the reply
		applied int
	}{
		"all kinds": {ops: bson.A(insert, op("op", "u", "ns", "d.c", "o2", bson.D("_id", 1), "o", bson.D("$v", int32(2))),
			op("op", "d", "ns", "x.y", "o", bson.D("_id", 1)), op("op", "c", "ns", "d.$cmd", "o", bson.D("create", "z")),
			op("op", "n", "ns", "", "o", bson.D("msg", "x"))), results: "[ true, true, true, true, true ]", applied: 3},
		"unknown collection by UUID is the applier's": {ops: bson.A(op("op", "i", "ns", "d.gone", "ui", ui, "o", bson.D("_id", 1))), results: "[ true ]", applied: 1},
		"sessions' own":   {ops: bson.A(op("op", "d", "ns", "config.transactions", "ui", ui, "o", bson.D("_id", 1))), results: "[ true ]"},
		"none":            {ops: bson.A(), results: "[]"},
		"atomic":          {ops: bson.A(insert), cmd: []any{"allowAtomic", true}, results: "[ true ]", applied: 1},
		"no array":        {ops: 1, code: mongoerr.TypeMismatch, msg: "BSON field 'applyOps.applyOps' is the wrong type 'int', expected type 'array'"},
		"no document":     {ops: bson.A(1), code: mongoerr.TypeMismatch, msg: "BSON field 'applyOps.applyOps.0' is the wrong type 'int', expected type 'object'"},
		"preCondition":    {ops: bson.A(insert), cmd: []any{"preCondition", bson.A()}, code: 6711600, msg: "applyOps command no longer supports the 'preCondition' option"},
		"alwaysUpsert":    {ops: bson.A(insert), cmd: []any{"alwaysUpsert", true}, code: 6711601, msg: "applyOps command no longer supports the 'alwaysUpsert' option"},
		"unknown option":  {ops: bson.A(insert), cmd: []any{"prepare", true}, code: mongoerr.UnknownField, msg: "BSON field 'applyOps.prepare' is an unknown field."},
		"no such ns":      {ops: bson.A(insert, op("op", "i", "ns", "d.n", "o", bson.D("_id", 1)), insert), code: mongoerr.NamespaceNotFound, msg: `cannot apply insert or update operation on a non-existent namespace d.n: { op: "i", ns: "d.n", o: { _id: 1 } }`, results: "[ true, false ]", applied: 1},
		"unknown op":      {ops: bson.A(op("op", "z", "ns", "d.c", "o", bson.D("_id", 1))), code: mongoerr.BadValue, msg: "Enumeration value 'z' for field 'OplogEntryBase.op' is not a valid value.", results: "[ false ]"},
		"no op":           {ops: bson.A(op("ns", "d.c", "o", bson.D("_id", 1))), code: 40414, msg: "BSON field 'OplogEntryBase.op' is missing but a required field", results: "[ false ]"},
		"no o":            {ops: bson.A(op("op", "i", "ns", "d.c")), code: 40414, msg: "BSON field 'OplogEntryBase.o' is missing but a required field", results: "[ false ]"},
		"o of wrong type": {ops: bson.A(op("op", "i", "ns", "d.c", "o", 1)), code: mongoerr.TypeMismatch, msg: "BSON field 'OplogEntryBase.o' is the wrong type 'int', expected type 'object'", results: "[ false ]"},
		"no o2":           {ops: bson.A(op("op", "u", "ns", "d.c", "o", bson.D("$v", int32(2)))), code: mongoerr.NoSuchKey, msg: `Missing expected field "o2"`, results: "[ false ]"},
		"applier refuses": {ops: bson.A(insert, op("op", "i", "ns", "d.c", "o", bson.D("bad", 1))), code: mongoerr.BadValue, msg: "bad", results: "[ true, false ]", applied: 1},
	} {
		t.Run(name, func(t *testing.T) {
			applied = nil
			r := runCommand(n, bson.D(append(append([]any{"applyOps", tc.ops}, tc.cmd...), "$db", "admin")...))
			if code := r.Get("code").Int32(); code != int32(tc.code) || r.Get("errmsg").Str() != tc.msg {
				t.Errorf("reply %s", r)
			}
			if got := r.Get("results"); tc.results != "" && got.String() != tc.results || tc.results == "" && !got.IsMissing() {
				t.Errorf("results %s, want %s", got, tc.results)
			}
			if want := int32(r.Get("results").Doc().Len()); r.Get("applied").Int32() != want || len(applied) != tc.applied {
				t.Errorf("reply %s, applied %v", r, applied)
			}
		})
	}
}
