package pipeline

import (
	"context"
	"errors"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

func TestRunStats(t *testing.T) {
	h := &memHost{}
	docs := benchDocs(10, 3)
	p, err := Parse([]bson.Raw{
		bson.D("$match", bson.D("n", bson.D("$lt", 7))), bson.D("$group", bson.D("_id", "$k")), bson.D("$limit", 2),
	}, testOptions(h, Namespace{"test", "c"}))
	if err != nil {
		t.Fatal(err)
	}
	stats, err := p.RunStats(context.Background(), &sliceIter{docs})
	if err != nil {
		t.Fatal(err)
	}
	b := bson.NewArrayBuilder(nil)
	p.ExplainStats(b, stats)
	want := []int64{7, 2, 2}
	i := 0
	for v := range b.Finish().Values() {
		if n := v.Doc().Get("nReturned").Int64(); n != want[i] {
			t.Errorf("stage %d returned %d, want %d", i, n, want[i])
		}
		if v.Doc().Get("executionTimeMillisEstimate").IsMissing() {
			t.Errorf("stage %d has no time", i)
		}
		i++
	}
	if i != 3 {
		t.Errorf("%d stages", i)
	}
}

// TestInterrupt checks that stages which read much look for interruption.
func TestInterrupt(t *testing.T) {
	stop := errors.New("stop")
	docs := benchDocs(1000, 10)
	for _, spec := range []bson.Raw{
		bson.D("$match", bson.D("nope", 1)),
		bson.D("$group", bson.D("_id", "$k")),
		bson.D("$sort", bson.D("n", 1)),
		bson.D("$sample", bson.D("size", 1)),
		bson.D("$skip", 1000),
		bson.D("$facet", bson.D("a", bson.A(bson.D("$count", "n")))),
		bson.D("$project", bson.D("x", bson.D("$map", bson.D("input", bson.D("$range", bson.A(0, "$_id", 1)), "in", "$$this")))),
	} {
		o := testOptions(&memHost{}, Namespace{"test", "c"})
		o.Env.Interrupt = func() error { return stop }
		p, err := Parse([]bson.Raw{spec}, o)
		if err != nil {
			t.Fatal(err)
		}
		it, err := p.Run(&sliceIter{docs})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := drain(it); !errors.Is(err, stop) {
			t.Errorf("%v is not interrupted: %v", spec, err)
		}
	}
}
