package catalog

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/oplog"
)

// benchDocs are documents of about 1 KB with ObjectIds that grow, as drivers make them.
func benchDocs(count int) []bson.Raw {
	docs := make([]bson.Raw, count)
	for i := range docs {
		id := bson.ObjectID{0x65, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
		docs[i] = bson.D("_id", id, "n", i, "text", strings.Repeat("x", 960))
	}
	return docs
}

// BenchmarkInsert measures documents in units of 250 with the index on _id alone: the
// write primitive, and the whole way into journal and engine.
func BenchmarkInsert(b *testing.B) {
	const unit = 250
	for _, commit := range []bool{false, true} {
		name := "primitive"
		if commit {
			name = "committed"
		}
		b.Run(name, func(b *testing.B) {
			n := openNode(b, vfs.NewMem())
			defer n.close()
			n.must(n.insert("db.c", bson.D("_id", 0)))
			docs := benchDocs(b.N + unit)
			b.SetBytes(int64(len(docs[0])))
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += unit {
				err := n.write("db.c", func(c *Collection, w *oplog.WriteUnit) error {
					if err := c.Insert(ctx, w, docs[i:i+unit], nil); err != nil || commit {
						return err
					}
					return errNothing
				})
				if err != nil && err != errNothing {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUpdateUnindexed(b *testing.B) {
	n := openNode(b, vfs.NewMem())
	defer n.close()
	docs := benchDocs(1000)
	n.must(n.insert("db.c", docs...))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d := docs[i%len(docs)]
		new := bson.NewBuilder(nil).Append("_id", d.Get("_id")).Int32("n", int32(i)).Append("text", d.Get("text")).Finish()
		if err := n.update("db.c", new); err != nil {
			b.Fatal(err)
		}
	}
}
