package node

import (
	"context"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

// closed is a reply without the number of its cursor, if that stays open.
func closed(reply string) string {
	d := bson.Raw(reply)
	if id, _ := d.Path("cursor.id").AsInt64(); id == 0 {
		return reply
	}
	return "open: " + string(d.Path("cursor.firstBatch").Data) + d.Path("cursor.ns").Str()
}

// TestFindShortWay: a find that asks for one document by its _id and nothing else is answered in a
// shorter way than others. With a readConcern, which changes nothing, it goes the long way: the replies
// are the same bytes, errors and collections where the short way does not lead included.
func TestFindShortWay(t *testing.T) {
	n := startInMemory(t, Config{})
	run := func(cmd bson.Raw) (string, error) {
		reply, err := n.Run(context.Background(), "test", cmd)
		return string(reply), err
	}
	must := func(cmd bson.Raw) {
		t.Helper()
		if _, err := run(cmd); err != nil {
			t.Fatal(cmd, err)
		}
	}
	ids := []any{1, int64(2), 2.5, "a", "A", bson.D("x", 1), bson.D("x", 1, "y", "z"), bson.ObjectID{7}, true, bson.DateTime(5)}
	must(bson.D("create", "collated", "collation", bson.D("locale", "en", "strength", 2)))
	must(bson.D("create", "clustered", "clusteredIndex", bson.D("key", bson.D("_id", 1), "unique", true)))
	for _, c := range []string{"c", "collated", "clustered"} {
		docs := bson.NewBuilder(nil).Str("insert", c).Bool("ordered", false).Array("documents")
		for i, id := range ids {
			docs.AppendDoc("", bson.D("_id", id, "i", i))
		}
		_, _ = run(docs.Finish()) // "A" is "a" to one of them
	}
	must(bson.D("create", "view", "viewOn", "c", "pipeline", bson.A(bson.D("$match", bson.D("i", bson.D("$lt", 3))))))
	filters := []bson.Raw{bson.D(), bson.D("_id", bson.D("$gt", 1)), bson.D("_id", nil), bson.D("_id", 1, "i", 0), bson.D("_id", 99), bson.D("i", 0)}
	for _, id := range ids {
		filters = append(filters, bson.D("_id", id))
	}
	rests := []bson.Raw{
		bson.D(), bson.D("limit", 1), bson.D("limit", 1, "singleBatch", true), bson.D("limit", nil, "singleBatch", false), bson.D("limit", -1),
		bson.D("limit", "x"), bson.D("singleBatch", "x"), bson.D("skip", 1), bson.D("batchSize", 0), bson.D("batchSize", 5), bson.D("projection", bson.D("i", 1)),
		bson.D("sort", bson.D("i", 1)), bson.D("comment", "x", "maxTimeMS", 10_000), bson.D("showRecordId", true), bson.D("hint", "none"),
		bson.D("collation", bson.D("locale", "en", "strength", 2)), bson.D("let", bson.D("x", 1)), bson.D("nonsense", 1), bson.D("limit", 1, "limit", 1),
		bson.D("tailable", true), bson.D("returnKey", true), bson.D("collectionUUID", bson.UUID{1}), bson.D("$readPreference", bson.D("mode", "nearest")),
	}
	for _, c := range []string{"c", "collated", "clustered", "view", "none", ""} {
		for _, f := range filters {
			for _, r := range rests {
				cmd := func(concern bool) bson.Raw {
					b := bson.NewBuilder(nil).Str("find", c).AppendDoc("filter", f)
					b.AppendElems(r)
					if concern {
						b.Doc("readConcern").Str("level", "local").End()
					}
					return b.Finish()
				}
				short, shortErr := run(cmd(false))
				long, longErr := run(cmd(true))
				if (shortErr == nil) != (longErr == nil) || shortErr != nil && shortErr.Error() != longErr.Error() {
					t.Errorf("%v: %v, with a readConcern: %v", cmd(false), shortErr, longErr)
				} else if closed(short) != closed(long) {
					t.Errorf("%v: %v, with a readConcern: %v", cmd(false), bson.Raw(short), bson.Raw(long))
				}
			}
		}
	}
}
