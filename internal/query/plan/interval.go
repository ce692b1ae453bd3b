package plan

import (
	"slices"

	"github.com/cairndb/cairn/internal/bson"
)

// Interval is a range of values in MongoDB's order across types.
type Interval struct {
	Lo, Hi       bson.Value
	LoInc, HiInc bool
}

// Intervals is a list of disjoint intervals in ascending order: the bounds of one
// field of an index.
type Intervals []Interval

var (
	minKey    = bson.Value{Type: bson.TypeMinKey}
	maxKey    = bson.Value{Type: bson.TypeMaxKey}
	nullValue = bson.Value{Type: bson.TypeNull}
	undefined = bson.Value{Type: bson.TypeUndefined}
)

// Point is the interval of one value.
func Point(v bson.Value) Interval { return Interval{v, v, true, true} }

// AllValues returns the interval that holds everything.
func AllValues() Intervals { return Intervals{{minKey, maxKey, true, true}} }

// IsPoint reports whether iv holds one value only.
func (iv Interval) IsPoint() bool {
	return iv.LoInc && iv.HiInc && bson.Compare(iv.Lo, iv.Hi) == 0
}

func (iv Interval) empty() bool {
	c := bson.Compare(iv.Lo, iv.Hi)
	return c > 0 || (c == 0 && !(iv.LoInc && iv.HiInc))
}

// IsAll reports whether iv holds everything.
func (iv Interval) IsAll() bool {
	return iv.Lo.Type == bson.TypeMinKey && iv.Hi.Type == bson.TypeMaxKey && iv.LoInc && iv.HiInc
}

// IsAll reports whether l excludes nothing.
func (l Intervals) IsAll() bool { return len(l) == 1 && l[0].IsAll() }

// IsPoints reports whether l is made of points only.
func (l Intervals) IsPoints() bool {
	for _, iv := range l {
		if !iv.IsPoint() {
			return false
		}
	}
	return true
}

// IsPoint reports whether l is exactly one point.
func (l Intervals) IsPoint() bool { return len(l) == 1 && l[0].IsPoint() }

func compareLo(a, b Interval) int {
	if c := bson.Compare(a.Lo, b.Lo); c != 0 {
		return c
	}
	if a.LoInc == b.LoInc {
		return 0
	}
	if a.LoInc {
		return -1
	}
	return 1
}

func compareHi(a, b Interval) int {
	if c := bson.Compare(a.Hi, b.Hi); c != 0 {
		return c
	}
	if a.HiInc == b.HiInc {
		return 0
	}
	if a.HiInc {
		return 1
	}
	return -1
}

// Normalize sorts l and joins what overlaps or touches.
func Normalize(l Intervals) Intervals {
	slices.SortFunc(l, compareLo)
	out := l[:0]
	for _, iv := range l {
		if iv.empty() {
			continue
		}
		if n := len(out); n > 0 && joins(out[n-1], iv) {
			if compareHi(iv, out[n-1]) > 0 {
				out[n-1].Hi, out[n-1].HiInc = iv.Hi, iv.HiInc
			}
			continue
		}
		out = append(out, iv)
	}
	return out
}

// joins reports whether b, which does not start before a, starts in or right behind a.
func joins(a, b Interval) bool {
	c := bson.Compare(b.Lo, a.Hi)
	return c < 0 || (c == 0 && (a.HiInc || b.LoInc))
}

// Union returns what is in a or b.
func Union(a, b Intervals) Intervals {
	return Normalize(append(slices.Clone(a), b...))
}

// Intersect returns what is in both a and b.
func Intersect(a, b Intervals) Intervals {
	var out Intervals
	for i, j := 0, 0; i < len(a) && j < len(b); {
		iv := a[i]
		if compareLo(b[j], iv) > 0 {
			iv.Lo, iv.LoInc = b[j].Lo, b[j].LoInc
		}
		if compareHi(b[j], iv) < 0 {
			iv.Hi, iv.HiInc = b[j].Hi, b[j].HiInc
		}
		if !iv.empty() {
			out = append(out, iv)
		}
		if compareHi(a[i], b[j]) < 0 {
			i++
		} else {
			j++
		}
	}
	return out
}

// Complement returns what is not in l.
func Complement(l Intervals) Intervals {
	var out Intervals
	next := Interval{Lo: minKey, LoInc: true, Hi: maxKey, HiInc: true}
	for _, iv := range l {
		gap := Interval{next.Lo, iv.Lo, next.LoInc, !iv.LoInc}
		if !gap.empty() {
			out = append(out, gap)
		}
		next.Lo, next.LoInc = iv.Hi, !iv.HiInc
	}
	if !next.empty() {
		out = append(out, next)
	}
	return out
}
