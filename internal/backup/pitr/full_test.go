package pitr

import (
	"encoding/json"
	"testing"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
)

func TestFullThenIncr(t *testing.T) {
	ctx, e := t.Context(), newEnv(t)
	coll := e.Client.Database("mydb").Collection("mycol")
	must(coll.InsertMany(ctx, docs(2000, 0)))(t)
	must(e.Client.Database("mydb").Collection("other").InsertMany(ctx, docs(10, 0)))(t)
	m := must(e.Full(ctx, FullOptions{}))(t)
	if m.Counts[countDocuments] != 2010 {
		t.Errorf("counts %v", m.Counts)
	}
	var d fullDetails
	if err := json.Unmarshal(m.Details, &d); err != nil {
		t.Fatal(err)
	}
	for _, c := range d.Collections {
		if !c.Exact {
			t.Errorf("%s was not written, but is not exact", c.NS)
		}
	}
	out := must(e.Incr(ctx, IncrOptions{}))(t)
	if out.Entries != 0 {
		t.Errorf("%+v", out)
	}
	must(coll.InsertMany(ctx, docs(5000, 2000)))(t)
	out = must(e.Incr(ctx, IncrOptions{SliceBytes: 100_000}))(t)
	if out.Entries != 5000 || len(out.Manifests) < 5 {
		t.Errorf("%d entries in %d slices", out.Entries, len(out.Manifests))
	}
	must(coll.InsertOne(ctx, dbson.D{{Key: "name", Value: "lisi"}}))(t)
	out = must(e.Incr(ctx, IncrOptions{}))(t)
	if out.Entries != 1 || len(out.Manifests) != 1 {
		t.Errorf("%+v", out)
	}
	st := must(e.State(ctx))(t)
	if len(st.Coverage.Windows) != 1 || st.Coverage.Windows[0].To != out.To || st.Coverage.Windows[0].From != toOpTime(m.End) {
		t.Errorf("%+v", st.Coverage.Windows)
	}
}
