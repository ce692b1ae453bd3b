package docsum

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestOrderDoesNotMatterContentDoes(t *testing.T) {
	docs := make([][]byte, 100)
	for i := range docs {
		docs[i] = fmt.Appendf(nil, "document %d", i%90)
	}
	var a, b, half Sum
	for _, d := range docs {
		a.Add(d)
	}
	rand.Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
	for i, d := range docs {
		if i < 50 {
			half.Add(d)
		} else {
			b.Add(d)
		}
	}
	b.Merge(half)
	if !a.Equal(b) || a.Documents != 100 {
		t.Fatalf("%+v and %+v", a, b)
	}
	back, err := Parse(a.Hash(), a.Documents, a.Bytes)
	if err != nil || !back.Equal(a) {
		t.Fatalf("%+v, %v", back, err)
	}
	// One document twice in place of another keeps the number but not the sum.
	var c Sum
	for i, d := range docs {
		if i == 0 {
			d = docs[1]
		}
		c.Add(d)
	}
	if string(docs[0]) != string(docs[1]) && a.Equal(c) {
		t.Fatal("an exchanged document is not seen")
	}
	for _, bad := range []string{"", "00", "zz" + a.Hash()[2:]} {
		if _, err := Parse(bad, 0, 0); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
