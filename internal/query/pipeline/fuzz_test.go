package pipeline

import (
	"context"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// FuzzPipeline parses pipelines from outside and runs what is accepted.
func FuzzPipeline(f *testing.F) {
	for _, s := range []string{
		`{"p":[{"$match":{"a":1}},{"$sort":{"a":1}},{"$limit":2}]}`,
		`{"p":[{"$group":{"_id":"$a","n":{"$sum":1}}}]}`,
		`{"p":[{"$unwind":"$t"},{"$facet":{"x":[{"$count":"n"}]}}]}`,
		`{"p":[{"$lookup":{"from":"c","localField":"a","foreignField":"a","as":"j"}}]}`,
		`{"p":[{"$bucket":{"groupBy":"$a","boundaries":[0,5]}}]}`,
	} {
		f.Add([]byte(extjson.MustParse(s)))
	}
	docs := []bson.Raw{bson.D("_id", 1, "a", 1, "t", bson.A(1, 2)), bson.D("_id", 2, "a", "x", "t", nil)}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bson.Validate(b, bson.MaxDepth) != nil {
			return
		}
		var specs []bson.Raw
		for v := range bson.Raw(b).Get("p").Doc().Values() {
			if v.Type != bson.TypeDocument {
				return
			}
			specs = append(specs, v.Doc())
		}
		h := &memHost{colls: map[string][]bson.Raw{"c": docs}}
		o := testOptions(h, Namespace{"test", "c"})
		p, err := Parse(specs, o)
		if err != nil || p.Optimize() != nil {
			return
		}
		it, err := h.Open(context.Background(), o.NS, p, o.Env)
		if err != nil {
			return
		}
		defer it.Close()
		for range 1000 {
			d, err := it.Next(context.Background())
			if err != nil || d == nil {
				return
			}
			if bson.Validate(d, 300) != nil {
				t.Fatalf("%s: malformed result", extjson.String(bson.Raw(b)))
			}
		}
	})
}
