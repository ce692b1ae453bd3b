package plan

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
)

// KeyPart is one field of an index.
type KeyPart struct {
	Path string
	Desc bool
	// Positional says that a component of the path is a number.
	Positional bool
}

// Index describes an index to the planner.
type Index struct {
	Name       string
	KeyPattern bson.Raw
	Parts      []KeyPart
	Unique     bool
	Sparse     bool
	Partial    match.Node // filter of a partial index, nil for none
	PartialRaw bson.Raw
	IsID       bool
	Hidden     bool
	// Special is the kind of an index that no plan can use yet ("hashed", "text",
	// "2dsphere" …), "" for a plain one.
	Special string
	// Collation is what stands in the keys for strings; nil: they themselves.
	Collation *collate.Collator
	// Multikey says that some document has more than one key. MultikeyPaths holds, for
	// each part, which components of its path led through an array; nil if only
	// Multikey is known.
	Multikey      bool
	MultikeyPaths [][]int
	// Ref is the executor's own handle.
	Ref any
}

// ParseKeyPattern reads the parts of a key pattern.
func ParseKeyPattern(p bson.Raw) []KeyPart {
	var parts []KeyPart
	for k, v := range p.Elems() {
		f, _ := v.AsFloat64()
		part := KeyPart{Path: strings.Clone(k), Desc: v.IsNumber() && f < 0}
		for c := range strings.SplitSeq(k, ".") {
			part.Positional = part.Positional || strings.Trim(c, "0123456789") == "" && c != ""
		}
		parts = append(parts, part)
	}
	return parts
}

// partMultikey reports whether an array can lie on the path of part i.
func (ix *Index) partMultikey(i int) bool {
	if !ix.Multikey {
		return false
	}
	return ix.MultikeyPaths == nil || len(ix.MultikeyPaths[i]) > 0
}

// multikeyUpTo reports whether one of the first n components of part i's path can be an array.
func (ix *Index) multikeyUpTo(i, n int) bool { return ix.multikeyBetween(i, 0, n) }

// multikeyBetween reports whether one of the components from ≤ c < to of part i's path
// can be an array.
func (ix *Index) multikeyBetween(i, from, to int) bool {
	if !ix.Multikey || from >= to {
		return false
	}
	if ix.MultikeyPaths == nil {
		return true
	}
	for _, c := range ix.MultikeyPaths[i] {
		if c >= from && c < to {
			return true
		}
	}
	return false
}

func components(path string) int { return strings.Count(path, ".") + 1 }

// commonPrefix returns how many components two paths share from the start.
func commonPrefix(a, b string) int {
	pa, pb := strings.Split(a, "."), strings.Split(b, ".")
	n := 0
	for n < len(pa) && n < len(pb) && pa[n] == pb[n] {
		n++
	}
	return n
}
