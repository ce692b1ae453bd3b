package session

import (
	"context"
	"fmt"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// executor is the query room over a store, with retryable writes.
func (s *store) executor(t *testing.T) *query.Local {
	l := query.NewLocal(query.LocalOptions{Catalog: s.cat, Engine: s.eng, Log: s.seq, Sessions: s.rw})
	t.Cleanup(l.Close)
	return l
}

var testNS = query.Namespace{DB: "test", Coll: "c"}

// command is one request as the command room would make it.
type command func(l *query.Local, op *query.OpContext) (string, error)

func insert(docs ...bson.Raw) command {
	return func(l *query.Local, op *query.OpContext) (string, error) {
		r, err := l.Insert(op, &query.InsertRequest{NS: testNS, Documents: docs})
		return writeReply(r), err
	}
}

func update(stmts ...query.UpdateStatement) command {
	return func(l *query.Local, op *query.OpContext) (string, error) {
		r, err := l.Update(op, &query.UpdateRequest{NS: testNS, Updates: stmts})
		return writeReply(r), err
	}
}

func remove(ids ...int) command {
	return func(l *query.Local, op *query.OpContext) (string, error) {
		r := &query.DeleteRequest{NS: testNS}
		for _, id := range ids {
			r.Deletes = append(r.Deletes, query.DeleteStatement{Q: bson.D("_id", id)})
		}
		rep, err := l.Delete(op, r)
		return writeReply(rep), err
	}
}

func findAndModify(r query.FindAndModifyRequest) command {
	return func(l *query.Local, op *query.OpContext) (string, error) {
		r := r
		r.NS = testNS
		rep, err := l.FindAndModify(op, &r)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("n=%d updatedExisting=%v,%v upserted=%s value=%s", rep.N, rep.HasUpdated, rep.HasUpdated && rep.UpdatedExisting, rep.UpsertedID, rep.Value), nil
	}
}

func bulkWrite(ops ...query.BulkOp) command {
	return func(l *query.Local, op *query.OpContext) (string, error) {
		b := bson.NewBuilder(nil)
		err := l.BulkWrite(op, &query.BulkWriteRequest{NSInfo: []query.Namespace{testNS}, Ops: ops}, b)
		return withoutRetried(b.Finish()), err
	}
}

// withoutRetried shows a reply but for the one field that tells a retry.
func withoutRetried(d bson.Raw) string {
	b := bson.NewBuilder(nil)
	for k, v := range d.Elems() {
		if k != "retriedStmtIds" {
			b.Append(k, v)
		}
	}
	return b.Finish().String()
}

func writeReply(r *query.WriteReply) string {
	if r == nil {
		return ""
	}
	s := fmt.Sprintf("n=%d nModified=%d", r.N, r.NModified)
	for _, u := range r.Upserted {
		s += fmt.Sprintf(" upserted %d: %s", u.Index, u.ID)
	}
	for _, e := range r.Errors {
		s += fmt.Sprintf(" error %d: %v", e.Index, e.Err)
	}
	return s
}

// in runs a command in a session.
func (s *store) in(t *testing.T, l *query.Local, txn int64, c command) (string, error) {
	t.Helper()
	ctx := context.Background()
	co, err := s.rw.CheckOut(ctx, lsidOf(1), txn)
	if err != nil {
		t.Fatal(err)
	}
	defer co.Release()
	op := query.NewOpContext(ctx)
	op.LSID, op.HasTxn, op.TxnNumber = co.LSID(), true, txn
	out, err := c(l, op)
	if err == nil && op.LastOp.TS == 0 {
		t.Error("nothing to wait for: LastOp is not set")
	}
	return out, err
}

func set(id int, u bson.Raw, upsert bool) query.UpdateStatement {
	return query.UpdateStatement{Q: bson.D("_id", id), U: u.Value(), Upsert: upsert}
}

// TestCommandsAreRetried sends every kind of write twice: the second reply is the first.
func TestCommandsAreRetried(t *testing.T) {
	inc := bson.D("$inc", bson.D("v", 1))
	for name, c := range map[string]struct {
		cmd  command
		want string
	}{
		"insert":                  {insert(bson.D("_id", 10), bson.D("_id", 11)), "n=2 nModified=0"},
		"insert with a duplicate": {insert(bson.D("_id", 10), bson.D("_id", 1), bson.D("_id", 11)), ""},
		"update":                  {update(set(1, inc, false), set(2, inc, false)), "n=2 nModified=2"},
		"pipeline":                {update(query.UpdateStatement{Q: bson.D("_id", 1), U: bson.A(bson.D("$set", bson.D("v", bson.D("$add", bson.A("$v", 1))))).Value()}), "n=1 nModified=1"},
		"replace":                 {update(set(1, bson.D("w", 1), false)), "n=1 nModified=1"},
		"upsert":                  {update(set(1, inc, false), set(50, inc, true)), "n=2 nModified=1 upserted 1: 50"},
		"delete":                  {remove(1, 2), "n=2 nModified=0"},
		"findAndModify":           {findAndModify(query.FindAndModifyRequest{Query: bson.D("_id", 1), Update: inc.Value()}), "n=1 updatedExisting=true,true upserted=EOO value={ _id: 1, v: 0 }"},
		"findAndModify new":       {findAndModify(query.FindAndModifyRequest{Query: bson.D("_id", 1), Update: inc.Value(), New: true}), "n=1 updatedExisting=true,true upserted=EOO value={ _id: 1, v: 1 }"},
		"findAndModify fields":    {findAndModify(query.FindAndModifyRequest{Query: bson.D("_id", 1), Update: inc.Value(), New: true, Fields: bson.D("_id", 0)}), "n=1 updatedExisting=true,true upserted=EOO value={ v: 1 }"},
		"findAndModify remove":    {findAndModify(query.FindAndModifyRequest{Query: bson.D("_id", 1), Remove: true}), "n=1 updatedExisting=false,false upserted=EOO value={ _id: 1, v: 0 }"},
		"findAndModify upsert":    {findAndModify(query.FindAndModifyRequest{Query: bson.D("_id", 60), Update: inc.Value(), Upsert: true}), "n=1 updatedExisting=true,false upserted=60 value={}"},
		"findAndModify upsert, new": {findAndModify(query.FindAndModifyRequest{Query: bson.D("_id", 60), Update: inc.Value(), Upsert: true, New: true}),
			"n=1 updatedExisting=true,false upserted=60 value={ _id: 60, v: 1 }"},
		"bulkWrite": {bulkWrite(query.BulkOp{Insert: bson.D("_id", 70)}, query.BulkOp{Update: &query.UpdateStatement{Q: bson.D("_id", 1), U: inc.Value()}},
			query.BulkOp{Update: &query.UpdateStatement{Q: bson.D("_id", 71), U: inc.Value(), Upsert: true}}, query.BulkOp{Delete: &query.DeleteStatement{Q: bson.D("_id", 2)}}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := openStore(t, fs)
			l := s.executor(t)
			if _, err := s.in(t, l, 1, insert(bson.D("_id", 1, "v", 0), bson.D("_id", 2, "v", 0))); err != nil {
				t.Fatal(err)
			}
			first, err := s.in(t, l, 2, c.cmd)
			if err != nil || c.want != "" && first != c.want {
				t.Fatalf("got %s, %v\nwant %s", first, err, c.want)
			}
			before, entries := fmt.Sprint(s.docs(t, testColl)), s.seq.LastApplied()
			for range 2 {
				if again, err := s.in(t, l, 2, c.cmd); err != nil || again != first {
					t.Errorf("retry: %s, %v\nfirst: %s", again, err, first)
				}
				l.Close()
				s.close(t)
				s = openStore(t, fs)
				l = s.executor(t)
			}
			if after := fmt.Sprint(s.docs(t, testColl)); after != before || s.seq.LastApplied().TS != entries.TS {
				t.Errorf("a retry wrote: %s\n%s", before, after)
			}
			s.close(t)
		})
	}
}

// TestRefusedRetries are commands that cannot be retried, or not as what they were.
func TestRefusedRetries(t *testing.T) {
	inc := bson.D("$inc", bson.D("v", 1))
	s := openStore(t, vfs.NewMem())
	defer s.close(t)
	l := s.executor(t)
	defer l.Close()
	fam := func(r query.FindAndModifyRequest) command {
		r.Query = bson.D("_id", 1)
		if !r.Remove {
			r.Update = inc.Value()
		}
		return findAndModify(r)
	}
	if _, err := s.in(t, l, 1, insert(bson.D("_id", 1, "v", 0))); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		first, retry command
		code         mongoerr.Code
	}{
		{fam(query.FindAndModifyRequest{}), fam(query.FindAndModifyRequest{New: true}), 40611},
		{fam(query.FindAndModifyRequest{New: true}), fam(query.FindAndModifyRequest{}), 40612},
		{fam(query.FindAndModifyRequest{}), fam(query.FindAndModifyRequest{Remove: true}), 40610},
		{update(set(1, inc, false)), fam(query.FindAndModifyRequest{}), 40612},
		{fam(query.FindAndModifyRequest{Remove: true}), fam(query.FindAndModifyRequest{Upsert: true}), 40606},
		{fam(query.FindAndModifyRequest{Upsert: true}), fam(query.FindAndModifyRequest{}), 40608},
	} {
		txn := int64(i + 2)
		if _, err := s.in(t, l, txn, c.first); err != nil {
			t.Fatal(i, err)
		}
		if _, err := s.in(t, l, txn, c.retry); !mongoerr.Is(err, c.code) {
			t.Errorf("%d: %v, want code %d", i, err, c.code)
		}
	}
	many := set(1, inc, false)
	many.Multi = true
	out, err := s.in(t, l, 50, update(set(1, inc, false), many))
	if want := "n=1 nModified=1 error 1: Cannot use (or request) retryable writes with multi=true (InvalidOptions)"; err != nil || out != want {
		t.Errorf("multi: %s, %v", out, err)
	}
}
