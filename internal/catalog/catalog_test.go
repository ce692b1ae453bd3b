package catalog

import (
	"fmt"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func TestInsertUpdateDelete(t *testing.T) {
	n := newNode(t)
	for i := range 5 {
		n.must(n.insert("db.c", bson.D("_id", i, "a", i)))
	}
	n.must(n.update("db.c", bson.D("_id", 2, "a", "two", "b", bson.A(1, 2))))
	n.must(n.delete("db.c", 3))
	want := `[{"_id":0,"a":0} {"_id":1,"a":1} {"_id":2,"a":"two","b":[1,2]} {"_id":4,"a":4}]`
	if got := fmt.Sprint(n.docs("db.c")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c := n.Pin().Lookup(nss("db.c"))
	if c.Count() != 4 {
		t.Errorf("count %d", c.Count())
	}
	err := n.insert("db.c", bson.D("_id", 1.0))
	e, _ := mongoerr.As(err)
	if e == nil || e.Code != mongoerr.DuplicateKey || e.Message != "E11000 duplicate key error collection: db.c index: _id_ dup key: { _id: 1.0 }" {
		t.Errorf("duplicate: %v", err)
	}
	f := follower(t, n.entries())
	sameState(t, "follower", f.dump(), n.dump())
}
