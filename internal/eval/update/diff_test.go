package update

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/cairndb/cairn/internal/bson"
)

// genDoc makes documents with few names, so that two of them share most.
func genDoc(t *rapid.T, depth int) bson.Raw {
	b := bson.NewBuilder(nil)
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "u", "i", "s", "l", "0", "1", ""}), 0, 6, rapid.ID[string]).Draw(t, "names")
	for _, n := range names {
		genValue(t, b, n, depth)
	}
	return b.Finish()
}

func genValue(t *rapid.T, b *bson.Builder, key string, depth int) {
	kind := rapid.IntRange(0, 7).Draw(t, "kind")
	switch {
	case kind == 0 && depth > 0:
		b.AppendDoc(key, genDoc(t, depth-1))
	case kind <= 2 && depth > 0:
		n := rapid.IntRange(0, 4).Draw(t, "len")
		b.Array(key)
		for range n {
			genValue(t, b, "", depth-1)
		}
		b.End()
	case kind == 3:
		b.Str(key, rapid.SampledFrom([]string{"", "x", "a much longer string that a diff should not repeat"}).Draw(t, "s"))
	case kind == 4:
		b.Null(key)
	default:
		b.Int32(key, int32(rapid.IntRange(0, 2).Draw(t, "n")))
	}
}

// TestDiffProperty: a diff applied to the old document gives the new one, and applied
// again changes nothing; applied to any other document it does not fail.
func TestDiffProperty(t *testing.T) {
	for range 20 { // a hundred cases each; reordered fields are met once in a thousand
		rapid.Check(t, diffProperty)
	}
}

func diffProperty(t *rapid.T) {
	old, next, other := genDoc(t, 3), genDoc(t, 3), genDoc(t, 3)
	diff, ok := Diff(old, next)
	if !ok {
		if !bytes.Equal(old, next) {
			t.Fatalf("no diff between %s and %s", old, next)
		}
		return
	}
	got, err := ApplyDiff(old, diff)
	if err != nil || !bytes.Equal(got, next) {
		t.Fatalf("old %s\nnew %s\ndiff %s\ngot %s %v", old, next, diff, got, err)
	}
	if again, err := ApplyDiff(got, diff); err != nil || !bytes.Equal(again, next) {
		t.Fatalf("not idempotent: old %s\nnew %s\ndiff %s\ngot %s %v", old, next, diff, again, err)
	}
	loose, err := ApplyDiff(other, diff)
	if err != nil {
		t.Fatalf("%s on %s: %v", diff, other, err)
	}
	if err := bson.Validate(loose, bson.MaxDepth); err != nil {
		t.Fatalf("%s on %s: %v", diff, other, err)
	}
}

// TestDiffReordered pins orders of fields that a diff once lost.
func TestDiffReordered(t *testing.T) {
	for _, c := range []struct{ old, next bson.Raw }{
		{bson.D("a", 1, "b", 2, "c", 3), bson.D("b", 2, "a", 1, "c", 3)},
		{bson.D("a", 1, "b", 2, "c", 3), bson.D("c", 3, "b", 2, "a", 1)},
		{bson.D("a", 1, "b", 2), bson.D("a", 1, "x", 0, "b", 2)},
		{bson.D("a", 1, "b", 2), bson.D("x", 0, "a", 1, "b", 2)},
	} {
		diff, ok := Diff(c.old, c.next)
		got, err := ApplyDiff(c.old, diff)
		if !ok || err != nil || !bytes.Equal(got, c.next) {
			t.Errorf("%s to %s by %s gives %s, %v", c.old, c.next, diff, got, err)
		}
	}
}

func TestDiffDuplicateNames(t *testing.T) {
	old, next := bson.D("a", 1, "a", 2), bson.D("a", 1, "a", 3)
	if d, ok := Diff(old, next); ok {
		t.Errorf("diff of doubled names: %s", d)
	}
}

func TestApplyV1(t *testing.T) {
	for _, c := range []struct{ doc, o, want string }{
		{`{"_id":1,"a":1}`, `{"$v":1,"$set":{"a":2,"b.c":3}}`, `{"_id":1,"a":2,"b":{"c":3}}`},
		{`{"_id":1,"a":1}`, `{"$v":1,"$unset":{"a":true,"z":true}}`, `{"_id":1}`},
		{`{"_id":1,"a":5}`, `{"$v":1,"$set":{"a.b":3,"c":1}}`, `{"_id":1,"a":5,"c":1}`},
		{`{"_id":1,"a":[1]}`, `{"$v":1,"$set":{"a.2":3}}`, `{"_id":1,"a":[1,null,3]}`},
		{`{"_id":1,"a":[1]}`, `{"$set":{"x":1}}`, `{"_id":1,"a":[1],"x":1}`},
		{`{"_id":1,"a":[1]}`, `{"x":1}`, `{"_id":1,"x":1}`},
		{`{"_id":1,"a":1}`, `{"$v":2,"diff":{"u":{"a":2}}}`, `{"_id":1,"a":2}`},
		{`{"_id":1,"a":1}`, `{"$v":2,"diff":{"sa":{"u":{"b":2}}}}`, `{"_id":1,"a":1}`},
	} {
		got, err := ApplyEntry(fromJSON(t, c.doc), fromJSON(t, c.o))
		if err != nil {
			t.Errorf("%s on %s: %v", c.o, c.doc, err)
		} else if s := toJSON(t, got); s != c.want {
			t.Errorf("%s on %s\n got %s\nwant %s", c.o, c.doc, s, c.want)
		}
	}
	for _, o := range []string{`{"$v":3}`, `{"$v":2}`, `{"$v":2,"diff":{"z":{}}}`, `{"$v":1,"$inc":{"a":1}}`} {
		if _, err := ApplyEntry(fromJSON(t, `{"_id":1}`), fromJSON(t, o)); err == nil {
			t.Errorf("%s: no error", o)
		}
	}
}

// FuzzUpdate: no update document makes the parser or the evaluation panic, results are
// valid documents, and the oplog entry leads to the same result.
func FuzzUpdate(f *testing.F) {
	for _, s := range []string{
		`{"$set":{"a.b":1,"c.3":2},"$unset":{"d":1}}`, `{"$inc":{"a.$[]":1}}`, `{"$push":{"c":{"$each":[1],"$sort":{"x":1},"$slice":2}}}`,
		`{"$rename":{"a":"q.r"}}`, `{"$pull":{"c":{"$in":[1,2]}}}`, `{"$bit":{"n":{"xor":3}}}`, `{"x":{"y":1}}`, `{"$addToSet":{"c":{"x":1}},"$max":{"n":9}}`,
	} {
		d := fromJSON(f, s)
		f.Add([]byte(d), []byte(fromJSON(f, `{"_id":1,"a":{"b":5},"c":[1,{"x":2}],"d":"s","n":7}`)))
	}
	f.Fuzz(func(t *testing.T, u, doc []byte) {
		if bson.Validate(u, bson.MaxDepth) != nil || bson.Validate(doc, bson.MaxDepth) != nil || len(u)+len(doc) > 1<<16 {
			return
		}
		up, err := Parse(bson.Raw(u).Value(), Options{})
		if flat := new(Update); flat.ParseFlat(bson.Raw(u).Value()) {
			if err != nil {
				t.Fatalf("%s is flat, the general way %v", bson.Raw(u), err)
			}
			up = flat
		}
		if err != nil {
			return
		}
		r, err := up.Apply(doc, &testInput)
		if err != nil || !r.Modified {
			return
		}
		if err := bson.Validate(r.Doc, bson.MaxDepth); err != nil {
			t.Fatalf("%s on %s: %v", bson.Raw(u), bson.Raw(doc), err)
		}
		again, err := ApplyEntry(doc, r.Entry)
		if err != nil || !bytes.Equal(again, r.Doc) {
			t.Fatalf("%s on %s: entry %s gives %s, not %s (%v)", bson.Raw(u), bson.Raw(doc), r.Entry, again, r.Doc, err)
		}
	})
}

func benchDoc() bson.Raw {
	b := bson.NewBuilder(nil).Int32("_id", 1)
	for i := range 10 {
		b.Str(fmt.Sprintf("field%d", i), string(bytes.Repeat([]byte{'x'}, 90)))
	}
	return b.Int32("n", 1).Finish()
}

func benchUpdate(b *testing.B, u bson.Raw) {
	up := new(Update)
	if !up.ParseFlat(u.Value()) {
		b.Fatal("not flat")
	}
	doc := benchDoc()
	b.ReportAllocs()
	for b.Loop() {
		r, err := up.Apply(doc, &testInput)
		if err != nil || !r.Modified {
			b.Fatal(err)
		}
	}
}

func BenchmarkSet(b *testing.B) { benchUpdate(b, bson.D("$set", bson.D("field5", "new"))) }
func BenchmarkInc(b *testing.B) { benchUpdate(b, bson.D("$inc", bson.D("n", 1))) }
