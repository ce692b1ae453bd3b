package sortkey

import (
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

func BenchmarkKeyAndCompare(b *testing.B) {
	p, err := Parse(bson.D("a", 1, "b.c", -1))
	if err != nil {
		b.Fatal(err)
	}
	x := bson.D("_id", 1, "pad", "some text", "a", 5, "b", bson.D("c", "x"))
	y := bson.D("_id", 2, "pad", "some text", "a", 5, "b", bson.D("c", "y"))
	b.ReportAllocs()
	for b.Loop() {
		if c, err := p.Compare(x, y); c <= 0 || err != nil {
			b.Fatal(c, err)
		}
	}
}
