package query

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// joined runs a pipeline in batches of two and returns the documents as text.
func (s *server) joined(pipeline ...string) string {
	s.t.Helper()
	r := &AggregateRequest{NS: testNS, BatchSize: 2, HasBatchSize: true}
	for _, p := range pipeline {
		r.Pipeline = append(r.Pipeline, extjson.MustParse(p))
	}
	b := bson.NewBuilder(nil)
	if err := s.Aggregate(newOp(), r, b); err != nil {
		s.t.Fatal(pipeline, err)
	}
	var out strings.Builder
	docs, id := cursorDocs(b.Finish(), "firstBatch")
	for {
		for _, d := range docs {
			fmt.Fprintln(&out, d)
		}
		if id == 0 {
			return out.String()
		}
		var err error
		if docs, id, err = s.more(newOp(), id, 2); err != nil {
			s.t.Fatal(pipeline, err)
		}
	}
}

// A $unwind of what a $lookup before it makes is done in one with it, and means the same.
func TestLookupUnwind(t *testing.T) {
	s := newServer(t)
	for i := range 8 {
		s.insert(bson.D("_id", i, "k", i%4, "g", i/4))
	}
	s.insert(bson.D("_id", 8, "k", "none"))
	lookups := map[string]string{
		"fields":       `{"$lookup": {"from": "%s", "localField": "k", "foreignField": "_id", "as": "x"}}`,
		"many":         `{"$lookup": {"from": "%s", "localField": "g", "foreignField": "g", "as": "x"}}`,
		"uncorrelated": `{"$lookup": {"from": "%s", "pipeline": [{"$match": {"_id": {"$lt": 3}}}, {"$project": {"k": 1}}], "as": "x"}}`,
		"nothing":      `{"$lookup": {"from": "%s", "pipeline": [{"$match": {"_id": 99}}], "as": "x"}}`,
		"correlated":   `{"$lookup": {"from": "%s", "let": {"g": "$g"}, "pipeline": [{"$match": {"$expr": {"$gt": ["$g", "$$g"]}}}], "as": "x"}}`,
		"concise":      `{"$lookup": {"from": "%s", "localField": "g", "foreignField": "g", "let": {"k": "$k"}, "pipeline": [{"$match": {"$expr": {"$ne": ["$k", "$$k"]}}}], "as": "x"}}`,
		"over a field": `{"$lookup": {"from": "%s", "localField": "k", "foreignField": "k", "as": "g"}}`,
	}
	for name, l := range lookups {
		l = fmt.Sprintf(l, testNS.Coll)
		as := "x"
		if name == "over a field" {
			as = "g"
		}
		for _, unwind := range []string{`"$%s"`, `{"path": "$%s", "preserveNullAndEmptyArrays": true}`, `{"path": "$%s", "includeArrayIndex": "i"}`, `{"path": "$%s", "preserveNullAndEmptyArrays": true, "includeArrayIndex": "k.i"}`} {
			u := `{"$unwind": ` + fmt.Sprintf(unwind, as) + `}`
			// What looks at the array stands between them, so that they stay two.
			apart := `{"$match": {"` + as + `": {"$exists": true}}}`
			for _, rest := range []string{`{"$match": {}}`, `{"$match": {"k": {"$gte": 1}}}`, `{"$limit": 5}`, `{"$match": {"` + as + `._id": {"$gte": 1}}}`} {
				if one, two := s.joined(l, u, rest), s.joined(l, apart, u, rest); one != two {
					t.Errorf("%s, %s, %s:\n%sapart:\n%s", name, u, rest, one, two)
				}
			}
		}
	}
	// More than a document can hold is no error if it goes out one by one.
	for i := range 20 {
		s.insert(bson.D("_id", 100+i, "big", 1, "pad", strings.Repeat("p", 1<<20)))
	}
	for _, l := range []string{lookups["fields"], `{"$lookup": {"from": "%s", "pipeline": [{"$match": {"big": 1}}], "as": "x"}}`} {
		l = strings.NewReplacer(`"k"`, `"big"`, `"_id", "as"`, `"big", "as"`).Replace(fmt.Sprintf(l, testNS.Coll))
		if got := s.joined(`{"$match": {"_id": {"$in": [100, 101]}}}`, l, `{"$unwind": "$x"}`, `{"$group": {"_id": "$_id", "n": {"$sum": 1}}}`, `{"$sort": {"_id": 1}}`); got != "{ _id: 100, n: 20 }\n{ _id: 101, n: 20 }\n" {
			t.Errorf("%s: %s", l, got)
		}
	}
}
