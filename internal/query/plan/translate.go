package plan

import (
	"math"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
)

// Tightness says how well bounds stand for a predicate.
type Tightness int8

// From best to worst.
const (
	Exact          Tightness = iota // a key in bounds is a match
	InexactCovered                  // the key must still be filtered
	InexactFetch                    // the document must still be filtered
)

func worse(a, b Tightness) Tightness { return max(a, b) }

// translate returns the bounds of predicate n on part i of ix. ok is false if the
// index is of no use for it.
func translate(n match.Node, ix *Index, i int) (Intervals, Tightness, bool) {
	if !ix.Parts[i].Positional {
		return translateLeaf(n, ix, i)
	}
	// A number in a path is a position for the keys; for a predicate it may be a field's
	// name too, so that what is missing to one is there for the other.
	switch n := n.(type) {
	case *match.Comparison:
		if n.Value.IsNullish() {
			return nil, 0, false
		}
	case *match.In:
		for _, v := range n.Values {
			if v.IsNullish() {
				return nil, 0, false
			}
		}
	case *match.Regex:
	default:
		return nil, 0, false
	}
	b, _, ok := translateLeaf(n, ix, i)
	return b, InexactFetch, ok
}

func translateLeaf(n match.Node, ix *Index, i int) (Intervals, Tightness, bool) {
	switch n := n.(type) {
	case *match.Comparison:
		v, ok := keyValue(n.Value, n.Collation, ix)
		if !ok {
			return nil, 0, false
		}
		return comparisonBounds(n.Op, v, ix)
	case *match.In:
		if n, ok := keyValues(n, ix); ok {
			return inBounds(n, ix)
		}
		return nil, 0, false
	case *match.Regex:
		if ix.Collation != nil {
			return nil, 0, false
		}
		return regexBounds(n)
	case *match.Exists:
		if ix.Sparse && len(ix.Parts) == 1 && !ix.partMultikey(i) {
			return AllValues(), Exact, true
		}
		return AllValues(), InexactFetch, true
	case *match.TypeOp:
		return typeBounds(n.Types)
	case *match.Mod:
		return Intervals{numbers(true)}, InexactCovered, true
	case *match.Size, *match.BitTest:
		return AllValues(), InexactFetch, true
	case *match.ElemMatchValue:
		return elemMatchValueBounds(n, ix, i)
	case *match.Not:
		return notBounds(n.Kid, ix, i)
	}
	return nil, 0, false
}

// keyValue is the value that stands in the keys of ix for v, which a predicate compares
// under a collation; ok is false if the index orders strings otherwise.
func keyValue(v bson.Value, c *collate.Collator, ix *Index) (key bson.Value, ok bool) {
	if c == nil && ix.Collation == nil {
		return v, true
	}
	if !collate.HasString(v) {
		return v, true
	}
	return ix.Collation.Value(v), collate.Same(c, ix.Collation)
}

// keyValues is keyValue for a list.
func keyValues(n *match.In, ix *Index) (*match.In, bool) {
	if n.Collation == nil && ix.Collation == nil {
		return n, true
	}
	if ix.Collation != nil && len(n.Regexes) > 0 {
		return nil, false
	}
	out := &match.In{Path: n.Path, Regexes: n.Regexes}
	for _, v := range n.Values {
		k, ok := keyValue(v, n.Collation, ix)
		if !ok {
			return nil, false
		}
		out.Values = append(out.Values, k)
	}
	return out, true
}

func comparisonBounds(op match.Op, v bson.Value, ix *Index) (Intervals, Tightness, bool) {
	switch {
	case v.Type == bson.TypeMissing:
		return nil, 0, false
	case op == match.Eq:
		return eqBounds(v, ix)
	case v.Type == bson.TypeNull || v.Type == bson.TypeUndefined:
		if op == match.Lt || op == match.Gt {
			return Intervals{}, Exact, true
		}
		return eqBounds(v, ix)
	case v.Type == bson.TypeMinKey || v.Type == bson.TypeMaxKey:
		return keyEndBounds(op, v), InexactFetch, true
	case v.Type == bson.TypeArray:
		return AllValues(), InexactFetch, true // elements and whole arrays order differently
	}
	iv := Interval{Lo: v, Hi: v}
	lo, hi, hiInc := bracket(v.Type)
	if isNaN(v) {
		if op == match.Lt || op == match.Gt {
			return Intervals{}, Exact, true
		}
		return Intervals{Point(v)}, Exact, true
	}
	switch op {
	case match.Lt, match.Lte:
		iv.Lo, iv.LoInc, iv.HiInc = lo, true, op == match.Lte
	default:
		iv.Hi, iv.HiInc, iv.LoInc = hi, hiInc, op == match.Gte
	}
	if v.Type == bson.TypeBinary || v.Type == bson.TypeCodeWScope || v.Type == bson.TypeDBPointer {
		return Normalize(Intervals{iv}), InexactFetch, true
	}
	return Normalize(Intervals{iv}), Exact, true
}

func isNaN(v bson.Value) bool {
	return (v.Type == bson.TypeDouble && math.IsNaN(v.Double())) || (v.Type == bson.TypeDecimal128 && v.Decimal128().IsNaN())
}

// keyEndBounds are those of comparisons with MinKey and MaxKey, which cross types.
func keyEndBounds(op match.Op, v bson.Value) Intervals {
	isMin := v.Type == bson.TypeMinKey
	switch {
	case (op == match.Gte && isMin) || (op == match.Lte && !isMin):
		return AllValues()
	case op == match.Gt && isMin:
		return Intervals{{minKey, maxKey, false, true}}
	case op == match.Lt && !isMin:
		return Intervals{{minKey, maxKey, true, false}}
	case op == match.Lte || op == match.Gte:
		return Intervals{Point(v)}
	}
	return Intervals{}
}

func eqBounds(v bson.Value, ix *Index) (Intervals, Tightness, bool) {
	switch v.Type {
	case bson.TypeNull:
		if ix.Sparse {
			return nil, 0, false // documents without the field are not in the index
		}
		return Intervals{Point(v)}, InexactFetch, true
	case bson.TypeUndefined:
		return nil, 0, false
	case bson.TypeArray:
		// Either the array's own elements are keys, or the array is an element itself.
		first := undefined
		if _, e := v.Doc().First(); !e.IsMissing() {
			first = e
		}
		return Normalize(Intervals{Point(first), Point(v)}), InexactFetch, true
	}
	return Intervals{Point(v)}, Exact, true
}

func inBounds(n *match.In, ix *Index) (Intervals, Tightness, bool) {
	out := make(Intervals, 0, len(n.Values))
	t := Exact
	for _, v := range n.Values {
		b, bt, ok := eqBounds(v, ix)
		if !ok {
			return nil, 0, false
		}
		out, t = append(out, b...), worse(t, bt)
	}
	for _, r := range n.Regexes {
		b, bt, ok := regexBounds(r)
		if !ok {
			return nil, 0, false
		}
		out, t = append(out, b...), worse(t, bt)
	}
	return Normalize(out), t, true
}

// numbers is the interval of all numbers, with or without NaN.
func numbers(nan bool) Interval {
	lo := math.Inf(-1)
	if nan {
		lo = math.NaN()
	}
	return Interval{bson.V(lo), bson.V(math.Inf(1)), true, true}
}

// bracket returns the least value of a type and the end of its values.
func bracket(t bson.Type) (lo, hi bson.Value, hiInc bool) {
	var zero, ones bson.ObjectID
	for i := range ones {
		ones[i] = 0xFF
	}
	switch t {
	case bson.TypeDouble, bson.TypeInt32, bson.TypeInt64, bson.TypeDecimal128:
		iv := numbers(false)
		return iv.Lo, iv.Hi, true
	case bson.TypeString, bson.TypeSymbol:
		return bson.V(""), bson.V(bson.Empty), false
	case bson.TypeDocument:
		return bson.V(bson.Empty), bson.V(bson.Array(bson.Empty)), false
	case bson.TypeArray:
		return bson.V(bson.Array(bson.Empty)), bson.V([]byte{}), false
	case bson.TypeBinary:
		return bson.V([]byte{}), bson.V(zero), false
	case bson.TypeObjectID:
		return bson.V(zero), bson.V(ones), true
	case bson.TypeBool:
		return bson.V(false), bson.V(true), true
	case bson.TypeDate:
		return bson.V(bson.DateTime(math.MinInt64)), bson.V(bson.DateTime(math.MaxInt64)), true
	case bson.TypeTimestamp:
		return bson.V(bson.Timestamp(0)), bson.V(bson.Timestamp(math.MaxUint64)), true
	case bson.TypeRegex:
		return bson.V(bson.Regex{}), dbPointerStart(), false
	case bson.TypeDBPointer:
		return dbPointerStart(), codeStart(), false
	case bson.TypeCode:
		return codeStart(), codeScopeStart(), false
	case bson.TypeCodeWScope:
		return codeScopeStart(), maxKey, false
	case bson.TypeNull:
		return nullValue, nullValue, true
	case bson.TypeUndefined:
		return undefined, undefined, true
	}
	return bson.Value{Type: t}, bson.Value{Type: t}, true
}

func dbPointerStart() bson.Value {
	return bson.Value{Type: bson.TypeDBPointer, Data: append([]byte{1, 0, 0, 0, 0}, make([]byte, 12)...)}
}

func codeStart() bson.Value {
	return bson.Value{Type: bson.TypeCode, Data: []byte{1, 0, 0, 0, 0}}
}

func codeScopeStart() bson.Value {
	return bson.Value{Type: bson.TypeCodeWScope, Data: []byte{14, 0, 0, 0, 1, 0, 0, 0, 0, 5, 0, 0, 0, 0}}
}

func typeBounds(set match.TypeSet) (Intervals, Tightness, bool) {
	var out Intervals
	if set.AllNumbers {
		out = append(out, numbers(true))
	}
	for _, t := range set.Types {
		switch {
		case t == bson.TypeArray:
			return AllValues(), InexactFetch, true // any key may be an element
		case t.IsNumber():
			out = append(out, numbers(true))
		case t == bson.TypeUndefined:
			return AllValues(), InexactFetch, true
		default:
			lo, hi, inc := bracket(t)
			out = append(out, Interval{lo, hi, true, inc})
		}
	}
	return Normalize(out), InexactFetch, true
}

func elemMatchValueBounds(n *match.ElemMatchValue, ix *Index, i int) (Intervals, Tightness, bool) {
	out := AllValues()
	some := false
	for _, k := range n.Kids {
		// Inside $elemMatch an element that is itself an array is one value, whose key is
		// the array: predicates that would look at its elements bound nothing.
		b, _, ok := translate(k, ix, i)
		if !ok {
			continue
		}
		out, some = Intersect(out, b), true
	}
	return out, InexactFetch, some
}

// notBounds complements the bounds of kid where they stand exactly for it.
func notBounds(kid match.Node, ix *Index, i int) (Intervals, Tightness, bool) {
	switch k := kid.(type) {
	case *match.Comparison:
		if k.Op == match.Eq && k.Value.Type == bson.TypeArray {
			return nil, 0, false
		}
		if isNullish(k.Value) {
			return notNullBounds(ix, i, Intervals{Point(nullValue)})
		}
	case *match.In:
		if len(k.Regexes) > 0 {
			return nil, 0, false
		}
		var pts Intervals
		hasNull := false
		for _, v := range k.Values {
			if v.Type == bson.TypeArray {
				return nil, 0, false
			}
			hasNull = hasNull || isNullish(v)
			key, ok := keyValue(v, k.Collation, ix)
			if !ok {
				return nil, 0, false
			}
			pts = append(pts, Point(key))
		}
		if hasNull {
			return notNullBounds(ix, i, Normalize(pts))
		}
	case *match.Exists:
		if ix.Sparse || ix.partMultikey(i) {
			return nil, 0, false
		}
		return Intervals{Point(nullValue)}, InexactFetch, true
	default:
		return nil, 0, false
	}
	if ix.Sparse {
		return nil, 0, false // a document without the field matches but is not in the index
	}
	b, t, ok := translate(kid, ix, i)
	if !ok || t != Exact {
		return nil, 0, false
	}
	t = Exact
	if ix.partMultikey(i) {
		t = InexactFetch
	}
	return Complement(b), t, true
}

func isNullish(v bson.Value) bool { return v.IsNullish() }

// notNullBounds are those of "not null": on a multikey path a document without the
// field can have a null key and still match.
func notNullBounds(ix *Index, i int, nulls Intervals) (Intervals, Tightness, bool) {
	if ix.partMultikey(i) {
		return nil, 0, false
	}
	return Complement(nulls), InexactFetch, true
}

func regexBounds(r *match.Regex) (Intervals, Tightness, bool) {
	self := Point(bson.V(bson.Regex{Pattern: r.Pattern, Options: r.Options}))
	prefix, exact := RegexPrefix(r.Pattern, r.Options)
	if prefix == "" {
		strs := Interval{bson.V(""), bson.V(bson.Empty), true, false}
		return Intervals{strs, self}, InexactCovered, true
	}
	t := InexactCovered
	if exact {
		t = Exact
	}
	return Intervals{{bson.V(prefix), afterPrefix(prefix), true, false}, self}, t, true
}

// afterPrefix is the end of the strings that start with p.
func afterPrefix(p string) bson.Value {
	b := []byte(p)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xFF {
			b[i]++
			return bson.V(string(b[:i+1]))
		}
	}
	return bson.V(bson.Empty)
}

// RegexPrefix returns the literal text that every match of a regular expression starts
// with, and whether starting with it is all that a match needs.
func RegexPrefix(pattern, options string) (prefix string, exact bool) {
	extended := false
	for _, o := range options {
		switch o {
		case 'x':
			extended = true
		case 's', 'u':
		default: // i changes letters, m what ^ means
			return "", false
		}
	}
	var rest string
	switch {
	case strings.HasPrefix(pattern, "^"):
		rest = pattern[1:]
	case strings.HasPrefix(pattern, `\A`):
		rest = pattern[2:]
	default:
		return "", false
	}
	if strings.Contains(rest, "|") {
		return "", false
	}
	var lit []byte
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		switch {
		case c == '*' || c == '?' || c == '{': // the last literal is optional
			if len(lit) > 0 {
				lit = lit[:lastRune(lit)]
			}
			return string(lit), false
		case c == '\\':
			if i+1 >= len(rest) || isWord(rest[i+1]) {
				return string(lit), false
			}
			i++
			lit = append(lit, rest[i])
		case strings.IndexByte(".[(+^$)", c) >= 0:
			// `.*` at the very end asks for nothing more, given that . may be anything.
			return string(lit), rest[i:] == ".*" && strings.Contains(options, "s")
		case extended && (c == ' ' || c == '#' || c == '\n' || c == '\t' || c == '\r'):
			return string(lit), false
		default:
			lit = append(lit, c)
		}
	}
	return string(lit), true
}

func lastRune(b []byte) int {
	i := len(b) - 1
	for i > 0 && b[i]&0xC0 == 0x80 {
		i--
	}
	return i
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
