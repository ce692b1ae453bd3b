package match

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

func benchDoc() bson.Raw {
	b := bson.NewBuilder(nil).ObjectID("_id", bson.ObjectID{1, 2, 3})
	for i := range 10 {
		b.Str(fmt.Sprintf("field%d", i), string(bytes.Repeat([]byte{'x'}, 90)))
	}
	return b.Int32("n", 1).Finish()
}

func benchmark(b *testing.B, filter bson.Raw) {
	m, err := Compile(filter, Options{})
	if err != nil {
		b.Fatal(err)
	}
	doc := benchDoc()
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := m.Match(doc); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkLastField(b *testing.B)    { benchmark(b, bson.D("n", 7)) }
func BenchmarkMissingField(b *testing.B) { benchmark(b, bson.D("zz", 7)) }
func BenchmarkThreeFields(b *testing.B) {
	benchmark(b, bson.D("n", bson.D("$gte", 1), "field3", bson.D("$ne", "y"), "field9", "z"))
}
func BenchmarkRange(b *testing.B) { benchmark(b, bson.D("n", bson.D("$gt", 5, "$lt", 9))) }
func BenchmarkIn(b *testing.B) {
	benchmark(b, bson.D("field9", bson.D("$in", bson.A("a", "b", "c"))))
}
func BenchmarkRegexPrefix(b *testing.B) {
	benchmark(b, bson.D("field9", bson.Regex{Pattern: "^abc"}))
}
