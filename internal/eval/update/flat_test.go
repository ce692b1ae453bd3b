package update

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/cairndb/cairn/internal/bson"
)

// TestFlat: the short way of flat updates gives what the general way gives, errors included.
func TestFlat(t *testing.T) {
	flat, short, modified, failed := 0, 0, 0, 0
	check := func(t *rapid.T) {
		d, doc := genFlat(t), genFlatDoc(t)
		var u Update
		if !u.ParseFlat(d.Value()) {
			return
		}
		general, err := Parse(d.Value(), Options{})
		if err != nil {
			t.Fatalf("%s is flat, the general way %v", d, err)
		}
		flat++
		paths, known := u.Paths()
		if want, _ := general.Paths(); !known || len(paths) != len(want) {
			t.Fatalf("%s changes %q, the general way says %q", d, paths, want)
		}
		if u.deep != general.deep || u.NeedsPositional() {
			t.Fatalf("%s: deep %v, positional %v", d, u.deep, u.NeedsPositional())
		}
		var buf []byte
		in := testInput
		in.Insert = rapid.Bool().Draw(t, "insert")
		in.NoEntry = rapid.Bool().Draw(t, "no entry")
		if rapid.Bool().Draw(t, "buffer") {
			buf = []byte("what was here before")
			in.Buf = &buf
		}
		if _, ok := u.applyFlat(doc, &in); ok && !in.Insert {
			short++
		}
		before := doc.Clone()
		got, err := u.Apply(doc, &in)
		generalIn := in
		generalIn.Buf = nil
		want, wantErr := general.Apply(doc, &generalIn)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("%s on %s: %v, the general way %v", d, doc, err, wantErr)
		}
		if !bytes.Equal(doc, before) {
			t.Fatalf("%s changed the document that it was given: %s, now %s", d, before, doc)
		}
		if err != nil {
			failed++
			return
		}
		if got.Modified != want.Modified || !bytes.Equal(got.Doc, want.Doc) || !bytes.Equal(got.Entry, want.Entry) || (got.Entry == nil) != (want.Entry == nil) {
			t.Fatalf("%s on %s:\n %v %s by %s, the general way\n %v %s by %s", d, doc, got.Modified, got.Doc, got.Entry, want.Modified, want.Doc, want.Entry)
		}
		if !got.Modified && &got.Doc[0] != &doc[0] {
			t.Fatalf("%s on %s changes nothing, but it is another document", d, doc)
		}
		if got.Modified && in.Buf != nil && !in.Insert && &got.Doc[0] != &buf[0] {
			t.Fatalf("%s on %s: the buffer was not used", d, doc)
		}
		if got.Modified {
			modified++
		}
	}
	for range 20 { // a hundred cases each
		rapid.Check(t, check)
	}
	if flat == 0 || short == 0 || modified == 0 || failed == 0 {
		t.Errorf("met %d flat updates, %d of them short, %d that modify and %d that fail", flat, short, modified, failed)
	}
}

// genFlatDoc makes documents with few names at the top, now and then one of them twice.
func genFlatDoc(t *rapid.T) bson.Raw {
	b := bson.NewBuilder(nil)
	if rapid.IntRange(0, 9).Draw(t, "id") > 0 {
		b.Int32("_id", 1)
	}
	for range rapid.IntRange(0, 6).Draw(t, "fields") {
		genFlatValue(t, b, genFlatName(t))
	}
	return b.Finish()
}

func genFlatName(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c", "ab", "é", "2", "10", "02", "d", "e"}).Draw(t, "name")
}

func genFlatValue(t *rapid.T, b *bson.Builder, key string) {
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		b.AppendDoc(key, genDoc(t, 2))
	case 1:
		b.Array(key).Int32("", 1).End()
	case 2:
		b.Str(key, rapid.SampledFrom([]string{"", "x", "some longer string"}).Draw(t, "s"))
	case 3:
		b.Int64(key, rapid.SampledFrom([]int64{0, 1, 1 << 62}).Draw(t, "long"))
	case 4:
		b.Double(key, 1.5)
	default:
		b.Int32(key, int32(rapid.IntRange(0, 2).Draw(t, "n")))
	}
}

// genFlat makes updates that are flat, and some that are almost.
func genFlat(t *rapid.T) bson.Raw {
	b := bson.NewBuilder(nil)
	deep := bson.D("x", 1)
	for range bson.MaxDepth/2 + 2 {
		deep = bson.D("x", deep)
	}
	for range rapid.IntRange(1, 3).Draw(t, "operators") {
		b.Doc(rapid.SampledFrom([]string{"$set", "$set", "$set", "$inc", "$mul", "$unset", "$setOnInsert", "$max"}).Draw(t, "operator"))
		for range rapid.IntRange(0, 4).Draw(t, "fields") {
			switch rapid.IntRange(0, 39).Draw(t, "special") {
			case 0:
				b.Int32(rapid.SampledFrom([]string{"a.b", "_id", "$a", "", "a.", "a.$"}).Draw(t, "path"), 1)
			case 1:
				b.AppendDoc(genFlatName(t), deep)
			default:
				genFlatValue(t, b, genFlatName(t))
			}
		}
		b.End()
	}
	return b.Finish()
}

// TestFlatKnown says which updates are flat.
func TestFlatKnown(t *testing.T) {
	for u, want := range map[string]bool{
		`{"$set":{"a":1}}`: true,
		`{"$set":{"a":1,"b":{"c":1}},"$inc":{"n":1}}`:                      true,
		`{"$unset":{"a":""},"$mul":{"b":2}}`:                               true,
		`{"$setOnInsert":{"a":1}}`:                                         true,
		`{"$set":{}}`:                                                      false,
		`{"$set":{"a.b":1}}`:                                               false,
		`{"$set":{"_id":1}}`:                                               false,
		`{"$set":{"a":1},"$push":{"b":1}}`:                                 false,
		`{"$inc":{"a":"x"}}`:                                               false,
		`{"$set":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1}}`:       true,
		`{"$set":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1}}`: false,
		`{"a":1}`: false,
	} {
		if got := new(Update).ParseFlat(fromJSON(t, u).Value()); got != want {
			t.Errorf("%s: flat %v, want %v", u, got, want)
		}
	}
}
