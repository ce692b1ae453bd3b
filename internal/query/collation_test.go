package query

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
)

// TestCollationsAgree runs random filters and sorts under several collations on a
// collection with indexes of all of them and on one without, and compares the order with
// what package collate says.
func TestCollationsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 14))
	words := []string{"", "a", "A", "ä", "Ä", "b", "ab", "AB", "a1", "a10", "a2", "z", "Z", "ß", "ss"}
	value := func() any {
		switch r.IntN(7) {
		case 0:
			return int32(r.IntN(3))
		case 1:
			return []any{words[r.IntN(len(words))], words[r.IntN(len(words))]}
		case 2:
			return bson.D("x", words[r.IntN(len(words))])
		case 3:
			return nil
		}
		return words[r.IntN(len(words))]
	}
	specs := []bson.Raw{
		bson.D("locale", "simple"), bson.D("locale", "de"), bson.D("locale", "de", "strength", 1),
		bson.D("locale", "en", "strength", 2), bson.D("locale", "en", "numericOrdering", true),
	}
	s := newServer(t)
	bare, full := Namespace{DB: "test", Coll: "bare"}, Namespace{DB: "test", Coll: "full"}
	var docs []bson.Raw
	for i := range 150 {
		docs = append(docs, bson.D("_id", i, "a", value(), "b", value()))
	}
	for _, ns := range []Namespace{bare, full} {
		if _, err := s.cat.Create(context.Background(), ns, bson.D("collation", specs[2])); err != nil {
			t.Fatal(err)
		}
		if rep, err := s.Insert(newOp(), &InsertRequest{NS: ns, Documents: docs[:100]}); err != nil || len(rep.Errors) > 0 {
			t.Fatal(err, rep)
		}
	}
	var indexes []bson.Raw
	for i, c := range specs {
		indexes = append(indexes,
			bson.D("key", bson.D("b", -1), "name", fmt.Sprint("b", i), "collation", c),
			bson.D("key", bson.D("a", 1), "name", fmt.Sprint("p", i), "collation", c, "partialFilterExpression", bson.D("b", bson.D("$gte", "AB"))))
	}
	// Half of the documents come while the indexes are there.
	if _, err := s.cat.CreateIndexes(context.Background(), full, indexes); err != nil {
		t.Fatal(err)
	}
	for _, ns := range []Namespace{bare, full} {
		if rep, err := s.Insert(newOp(), &InsertRequest{NS: ns, Documents: docs[100:]}); err != nil || len(rep.Errors) > 0 {
			t.Fatal(err, rep)
		}
	}
	ops := []string{"$eq", "$gt", "$gte", "$lt", "$lte", "$ne"}
	var filter func(depth int) bson.Raw
	filter = func(depth int) bson.Raw {
		f := []string{"a", "b", "a.x"}[r.IntN(3)]
		switch k := r.IntN(10); {
		case k == 0:
			return bson.D(f, bson.D("$in", []any{value(), value(), value()}))
		case k == 1 && depth > 0:
			return bson.D("$or", []bson.Raw{filter(depth - 1), filter(depth - 1)})
		case k == 2 && depth > 0:
			return bson.D("$and", []bson.Raw{filter(depth - 1), filter(depth - 1)})
		case k == 3:
			return bson.D(f, bson.D("$regex", "^[aA]"))
		case k == 4:
			return bson.D(f, bson.D("$type", "string"))
		case k == 5:
			return bson.D(f, bson.D("$nin", []any{value(), value()}))
		case k == 6:
			return bson.D(f, bson.D("$gte", words[r.IntN(len(words))], "$lt", words[r.IntN(len(words))]))
		}
		return bson.D(f, bson.D(ops[r.IntN(len(ops))], value()))
	}
	used := 0
	for n := range 1000 {
		c := specs[r.IntN(len(specs))]
		req := FindRequest{NS: bare, Filter: filter(2), Collation: c}
		if r.IntN(3) == 0 {
			req.Sort = bson.D([]string{"a", "b"}[r.IntN(2)], 1-2*r.IntN(2))
		}
		want, err := s.tryFind(&req)
		if err != nil {
			t.Fatal(err)
		}
		on := req
		on.NS = full
		op := newOp()
		b := bson.NewBuilder(nil)
		if err := s.Find(op, &on, b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(op.Stats.PlanSummary, "IXSCAN") {
			used++
		}
		on.NS = full
		got, err := s.tryFind(&on)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(ids(want), ids(got)) {
			t.Fatalf("query %d: %s sort %s under %s (%s)\nwith indexes %v\nwithout %v", n, req.Filter, req.Sort, c, op.Stats.PlanSummary, ids(got), ids(want))
		}
		if req.Sort != nil {
			checkOrder(t, got, req.Sort, c)
		}
	}
	if used < 150 {
		t.Errorf("only %d of 1000 queries used an index", used)
	}
	for _, ns := range []Namespace{bare, full} {
		res, err := s.cat.Pin().Lookup(ns).Validate(context.Background(), true)
		if err != nil || !res.Valid() {
			t.Errorf("%v: %s %v", ns, res, err)
		}
	}
}

func ids(docs []bson.Raw) []string {
	var out []string
	for _, d := range docs {
		out = append(out, d.Get("_id").String())
	}
	slices.Sort(out)
	return out
}

// checkOrder checks the order of documents without arrays in the field.
func checkOrder(t *testing.T, docs []bson.Raw, sort, spec bson.Raw) {
	t.Helper()
	c, err := collate.Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	field, dir := sort.First()
	n, _ := dir.AsInt64()
	var last bson.Value
	for _, d := range docs {
		v := d.Get(field)
		if v.Type == bson.TypeArray {
			continue
		}
		if !last.IsMissing() && int64(c.Compare(last, v))*n > 0 {
			t.Fatalf("%s stands before %s under %s, sort %s", last, v, spec, sort)
		}
		last = v
	}
}
