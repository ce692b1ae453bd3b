package query

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

var testNS = Namespace{DB: "test", Coll: "c"}

// server is an executor with all that lies under it, in memory.
type server struct {
	*Local
	t   testing.TB
	eng *storage.Engine
	cat *catalog.Catalog
	seq *oplog.Sequencer
	log *oplog.Log
}

func newServer(t testing.TB, change ...func(*LocalOptions)) *server {
	t.Helper()
	eng, err := storage.Open(storage.Options{Dir: "data", FS: vfs.NewMem(), CacheBytes: 64 << 20, CheckpointInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, eng: eng}
	if s.cat, err = catalog.Open(catalog.Options{Engine: eng}); err != nil {
		t.Fatal(err)
	}
	if _, err = s.cat.Recover(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s.seq, err = oplog.NewSequencer(eng, oplog.SequencerOptions{}); err != nil {
		t.Fatal(err)
	}
	if s.log, err = oplog.NewLog(s.seq, oplog.LogOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.cat.Start(s.seq, s.log); err != nil {
		t.Fatal(err)
	}
	o := LocalOptions{Catalog: s.cat, Engine: eng, Log: s.seq}
	for _, f := range change {
		f(&o)
	}
	s.Local = NewLocal(o)
	t.Cleanup(func() {
		s.Local.Close()
		s.cat.Close()
		s.log.Close()
		if err := errors.Join(s.seq.Close(), eng.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newOp() *OpContext { return NewOpContext(context.Background()) }

// js reads a document in relaxed extended JSON with unquoted keys allowed for a short form.
func js(t testing.TB, text string) bson.Raw {
	t.Helper()
	d, err := extjson.Unmarshal([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

func (s *server) insert(docs ...bson.Raw) {
	s.t.Helper()
	rep, err := s.Insert(newOp(), &InsertRequest{NS: testNS, Documents: docs})
	if err != nil || len(rep.Errors) > 0 {
		s.t.Fatalf("insert: %v %v", rep, err)
	}
}

func (s *server) index(spec string) {
	s.t.Helper()
	if _, err := s.cat.CreateIndexes(context.Background(), testNS, []bson.Raw{js(s.t, spec)}); err != nil {
		s.t.Fatal(err)
	}
}

// find returns all results of a find.
func (s *server) find(r *FindRequest) []bson.Raw {
	s.t.Helper()
	docs, err := s.tryFind(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return docs
}

func (s *server) tryFind(r *FindRequest) ([]bson.Raw, error) {
	if r.NS.DB == "" {
		r.NS = testNS
	}
	b := bson.NewBuilder(nil)
	if err := s.Find(newOp(), r, b); err != nil {
		return nil, err
	}
	docs, id := cursorDocs(b.Finish(), "firstBatch")
	for id != 0 {
		b := bson.NewBuilder(nil)
		if err := s.GetMore(newOp(), &GetMoreRequest{NS: r.NS, CursorID: id}, b); err != nil {
			return nil, err
		}
		var more []bson.Raw
		more, id = cursorDocs(b.Finish(), "nextBatch")
		docs = append(docs, more...)
	}
	return docs, nil
}

func cursorDocs(reply bson.Raw, batch string) (docs []bson.Raw, id int64) {
	c := reply.Get("cursor").Doc()
	for v := range c.Get(batch).Doc().Values() {
		docs = append(docs, v.Doc())
	}
	return docs, c.Get("id").Int64()
}

// command runs one command document and returns its reply as text: the way of the
// scripts in testdata.
func (s *server) command(cmd bson.Raw) string {
	out, err := s.dispatch(cmd)
	if err != nil {
		if e, ok := mongoerr.As(err); ok {
			return fmt.Sprintf("error %d %s: %s", e.Code, e.Code, e.Message)
		}
		return "error: " + err.Error()
	}
	return out
}

func raws(v bson.Value) []bson.Raw {
	var out []bson.Raw
	if v.Type == bson.TypeArray {
		out = []bson.Raw{}
		for e := range v.Doc().Values() {
			out = append(out, e.Doc())
		}
	}
	return out
}

func num(d bson.Raw, key string) int64 {
	n, _ := d.Get(key).AsInt64()
	return n
}

func (s *server) dispatch(cmd bson.Raw) (string, error) {
	name, arg := cmd.First()
	ns := Namespace{DB: "test", Coll: arg.Str()}
	b := bson.NewBuilder(nil)
	op := newOp()
	var err error
	switch name {
	case "find":
		err = s.Find(op, findRequest(ns, cmd), b)
	case "aggregate":
		err = s.Aggregate(op, aggregateRequest(ns, cmd), b)
	case "count":
		var n int64
		n, err = s.Count(op, countRequest(ns, cmd))
		b.IntOrLong("n", n)
	case "distinct":
		err = s.Distinct(op, &DistinctRequest{NS: ns, Key: cmd.Get("key").Str(), Query: cmd.Get("query").Doc(), Hint: cmd.Get("hint"), Collation: cmd.Get("collation").Doc()}, b)
	case "insert":
		var rep *WriteReply
		rep, err = s.Insert(op, &InsertRequest{NS: ns, Documents: raws(cmd.Get("documents")), Unordered: cmd.Get("unordered").Bool(), BypassValidation: cmd.Get("bypass").Bool()})
		appendReply(b, rep)
	case "update":
		var rep *WriteReply
		rep, err = s.Update(op, updateRequest(ns, cmd))
		appendReply(b, rep)
	case "delete":
		var rep *WriteReply
		rep, err = s.Delete(op, deleteRequest(ns, cmd))
		appendReply(b, rep)
	case "findAndModify":
		var rep *FindAndModifyReply
		rep, err = s.FindAndModify(op, famRequest(ns, cmd))
		if err == nil {
			b.IntOrLong("n", rep.N).Bool("updatedExisting", rep.UpdatedExisting)
			b.Append("upserted", rep.UpsertedID)
			if rep.Value == nil {
				b.Null("value")
			} else {
				b.AppendDoc("value", rep.Value)
			}
		}
	case "createIndexes":
		_, err = s.cat.CreateIndexes(op.Ctx, ns, raws(cmd.Get("indexes")))
	case "create":
		opts := bson.NewBuilder(nil)
		for k, v := range cmd.Elems() {
			if k != "create" {
				opts.Append(k, v)
			}
		}
		_, err = s.cat.Create(op.Ctx, ns, opts.Finish())
	case "drop":
		_, err = s.cat.Drop(op.Ctx, ns)
	case "explain":
		return s.explain(op, arg.Doc(), cmd)
	default:
		s.t.Fatalf("no command %s", name)
	}
	if err != nil {
		return "", err
	}
	reply := b.Finish()
	if c := reply.Get("cursor").Doc(); c != nil {
		var lines []string
		for v := range c.Get("firstBatch").Doc().Values() {
			lines = append(lines, plan.Text(v))
		}
		if c.Get("id").Int64() != 0 {
			lines = append(lines, "(more)")
		}
		if len(lines) == 0 {
			return "(none)", nil
		}
		return strings.Join(lines, "\n"), nil
	}
	return plan.Text(reply.Value()), nil
}

func (s *server) explain(op *OpContext, cmd, outer bson.Raw) (string, error) {
	verbosity := outer.Get("verbosity").Str()
	if verbosity == "" {
		verbosity = "queryPlanner"
	}
	name, arg := cmd.First()
	ns := Namespace{DB: "test", Coll: arg.Str()}
	r := &ExplainRequest{Verbosity: verbosity}
	switch name {
	case "find":
		r.Find = findRequest(ns, cmd)
	case "aggregate":
		r.Aggregate = aggregateRequest(ns, cmd)
	case "count":
		r.Count = countRequest(ns, cmd)
	case "distinct":
		r.Distinct = &DistinctRequest{NS: ns, Key: cmd.Get("key").Str(), Query: cmd.Get("query").Doc()}
	case "update":
		r.Update = updateRequest(ns, cmd)
	case "delete":
		r.Delete = deleteRequest(ns, cmd)
	case "findAndModify":
		r.FindAndModify = famRequest(ns, cmd)
	}
	b := bson.NewBuilder(nil)
	if err := s.Explain(op, r, b); err != nil {
		return "", err
	}
	reply := b.Finish()
	if path := outer.Get("show").Str(); path != "" {
		return pretty(reply.Path(path), ""), nil
	}
	return pretty(reply.Path("queryPlanner.winningPlan"), ""), nil
}

// pretty writes nested plans a stage a line.
func pretty(v bson.Value, indent string) string {
	d := v.Doc()
	if v.Type != bson.TypeDocument {
		return plan.Text(v)
	}
	flat := bson.NewBuilder(nil)
	var below []string
	for k, e := range d.Elems() {
		switch {
		case k == "isCached", strings.HasPrefix(k, "executionTimeMillis"), k == "multiKeyPaths", k == "indexVersion", k == "saveState", k == "restoreState", k == "needYield":
		case k == "inputStage":
			below = append(below, pretty(e, indent+"  "))
		case k == "inputStages":
			for s := range e.Doc().Values() {
				below = append(below, pretty(s, indent+"  "))
			}
		case e.Type == bson.TypeBool && !e.Bool():
		default:
			flat.Append(k, e)
		}
	}
	return strings.Join(append([]string{indent + plan.Text(flat.Finish().Value())}, below...), "\n")
}

func appendReply(b *bson.Builder, rep *WriteReply) {
	if rep == nil {
		return
	}
	b.IntOrLong("n", rep.N).IntOrLong("nModified", rep.NModified)
	if len(rep.Upserted) > 0 {
		b.Array("upserted")
		for _, u := range rep.Upserted {
			b.Doc("").Int32("index", int32(u.Index)).Append("_id", u.ID).End()
		}
		b.End()
	}
	if len(rep.Errors) > 0 {
		b.Array("writeErrors")
		for _, e := range rep.Errors {
			b.Doc("").Int32("index", int32(e.Index)).Int32("code", int32(e.Err.Code)).Str("errmsg", e.Err.Message).AppendElems(e.Err.Extra).End()
		}
		b.End()
	}
}

func findRequest(ns Namespace, d bson.Raw) *FindRequest {
	return &FindRequest{NS: ns, Filter: d.Get("filter").Doc(), Sort: d.Get("sort").Doc(), Projection: d.Get("projection").Doc(), Hint: d.Get("hint"),
		Skip: num(d, "skip"), Limit: num(d, "limit"), BatchSize: num(d, "batchSize"), HasBatchSize: d.Has("batchSize"), SingleBatch: d.Get("singleBatch").Bool(),
		Min: d.Get("min").Doc(), Max: d.Get("max").Doc(), ReturnKey: d.Get("returnKey").Bool(), ShowRecordID: d.Get("showRecordId").Bool(),
		Tailable: d.Get("tailable").Bool(), AwaitData: d.Get("awaitData").Bool(), Let: d.Get("let").Doc(), Collation: d.Get("collation").Doc()}
}

func aggregateRequest(ns Namespace, d bson.Raw) *AggregateRequest {
	return &AggregateRequest{NS: ns, Pipeline: raws(d.Get("pipeline")), Hint: d.Get("hint"), Let: d.Get("let").Doc(), BatchSize: num(d, "batchSize"), HasBatchSize: d.Has("batchSize"), Collation: d.Get("collation").Doc()}
}

func countRequest(ns Namespace, d bson.Raw) *CountRequest {
	return &CountRequest{NS: ns, Query: d.Get("query").Doc(), Hint: d.Get("hint"), Skip: num(d, "skip"), Limit: num(d, "limit"), Collation: d.Get("collation").Doc()}
}

func updateRequest(ns Namespace, d bson.Raw) *UpdateRequest {
	r := &UpdateRequest{NS: ns, Unordered: d.Get("unordered").Bool(), Let: d.Get("let").Doc()}
	for _, u := range raws(d.Get("updates")) {
		r.Updates = append(r.Updates, UpdateStatement{Q: u.Get("q").Doc(), U: u.Get("u"), Multi: u.Get("multi").Bool(), Upsert: u.Get("upsert").Bool(),
			ArrayFilters: raws(u.Get("arrayFilters")), Hint: u.Get("hint"), Sort: u.Get("sort").Doc(), Constants: u.Get("c").Doc(), Collation: u.Get("collation").Doc()})
	}
	return r
}

func deleteRequest(ns Namespace, d bson.Raw) *DeleteRequest {
	r := &DeleteRequest{NS: ns, Unordered: d.Get("unordered").Bool()}
	for _, u := range raws(d.Get("deletes")) {
		r.Deletes = append(r.Deletes, DeleteStatement{Q: u.Get("q").Doc(), Multi: num(u, "limit") == 0, Hint: u.Get("hint"), Collation: u.Get("collation").Doc()})
	}
	return r
}

func famRequest(ns Namespace, d bson.Raw) *FindAndModifyRequest {
	return &FindAndModifyRequest{NS: ns, Query: d.Get("query").Doc(), Sort: d.Get("sort").Doc(), Remove: d.Get("remove").Bool(), Update: d.Get("update"),
		New: d.Get("new").Bool(), Fields: d.Get("fields").Doc(), Upsert: d.Get("upsert").Bool(), ArrayFilters: raws(d.Get("arrayFilters")), Collation: d.Get("collation").Doc()}
}
