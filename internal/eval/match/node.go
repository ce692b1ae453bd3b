package match

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
)

// Node is one predicate of a parsed filter. The set of nodes is closed: And, Or, Nor,
// Not, Comparison, In, Exists, TypeOp, Regex, Mod, Size, ElemMatchObject,
// ElemMatchValue, BitTest, Expr, JSONSchema, AlwaysTrue and AlwaysFalse ($all is parsed into an
// And of Comparison, Regex and ElemMatch nodes, $ne into Not of Comparison, $nin into
// Not of In). Trees are read-only after parsing.
type Node interface {
	// matchDoc matches a whole document; d, if not nil, takes the array index.
	matchDoc(doc bson.Raw, d *Details) (bool, error)
	// matchElem matches one value, for predicates inside $elemMatch on values.
	matchElem(v bson.Value) (bool, error)
	kind() kind
}

// Leaf is a node that tests the values at one path.
type Leaf interface {
	Node
	// FieldPath is the path that the predicate reads, with no parts for predicates
	// directly on array elements.
	FieldPath() *Path
}

// Op is the operator of a Comparison.
type Op int8

// The comparison operators.
const (
	Eq Op = iota
	Lt
	Lte
	Gt
	Gte
)

// String returns the operator as it is written in a filter: "$eq".
func (o Op) String() string { return [...]string{"$eq", "$lt", "$lte", "$gt", "$gte"}[o] }

// And matches what all Kids match; without kids, everything.
type And struct{ Kids []Node }

// Or matches what at least one of Kids matches.
type Or struct{ Kids []Node }

// Nor matches what none of Kids matches.
type Nor struct{ Kids []Node }

// Not matches what Kid does not.
type Not struct{ Kid Node }

// Comparison matches values of Value's type bracket that stand in relation Op to it.
type Comparison struct {
	Path  *Path
	Op    Op
	Value bson.Value
	// Collation orders strings; nil is the simple one.
	Collation *collate.Collator
}

// In matches values equal to one of Values (sorted, without duplicates) or matched by
// one of Regexes.
type In struct {
	Path    *Path
	Values  []bson.Value
	Regexes []*Regex // their Path is Path
	// Collation says which strings are equal; nil is the simple one.
	Collation *collate.Collator

	hasNull bool
	keys    map[string]struct{} // set of byte-comparable values if there are many
}

// Exists matches where the path leads to a value, null included.
type Exists struct{ Path *Path }

// TypeOp matches values of a set of types.
type TypeOp struct {
	Path  *Path
	Types TypeSet
}

// Mod matches numbers with n mod Divisor == Remainder.
type Mod struct {
	Path               *Path
	Divisor, Remainder int64
}

// Size matches arrays of N elements.
type Size struct {
	Path *Path
	N    int64
}

// ElemMatchObject matches arrays with an element that is a document (or array) which
// Kid matches.
type ElemMatchObject struct {
	Path *Path
	Kid  Node
}

// ElemMatchValue matches arrays with an element that all Kids match; the kids' paths
// have no parts.
type ElemMatchValue struct {
	Path *Path
	Kids []Node
}

// BitTest matches integers and binary data by their bits.
type BitTest struct {
	Path      *Path
	Test      BitOp
	Positions []uint32 // sorted

	mask uint64 // positions below 64
	high bool   // some position is 64 or more
}

// BitOp says which bits a BitTest wants.
type BitOp int8

// The bit tests.
const (
	BitsAllSet BitOp = iota
	BitsAllClear
	BitsAnySet
	BitsAnyClear
)

// String returns the operator's name: "$bitsAllSet".
func (o BitOp) String() string {
	return [...]string{"$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"}[o]
}

// Expr matches documents for which an aggregation expression is true.
type Expr struct {
	Source bson.Value
	fn     ExprFunc
}

// AlwaysTrue matches every document.
type AlwaysTrue struct{}

// AlwaysFalse matches no document.
type AlwaysFalse struct{}

// ExprFunc evaluates a compiled aggregation expression with doc as $$ROOT. It is made
// by whoever owns the variables and the time; see ExprParser.
type ExprFunc func(doc bson.Raw) (bson.Value, error)

// ExprParser compiles an aggregation expression. The function that it returns must be
// as safe for concurrent use as the matcher is meant to be.
type ExprParser func(v bson.Value) (ExprFunc, error)

// kind orders node types as MongoDB does when it sorts a tree into canonical form.
type kind int8

const (
	kindAnd kind = iota
	kindOr
	kindElemMatchObject
	kindElemMatchValue
	kindSize
	kindEq
	kindLte
	kindLt
	kindGt
	kindGte
	kindRegex
	kindMod
	kindExists
	kindIn
	kindBitsAllSet
	kindBitsAllClear
	kindBitsAnySet
	kindBitsAnyClear
	kindNot
	kindNor
	kindType
	kindExpr
	kindJSONSchema
	kindAlwaysFalse
	kindAlwaysTrue
)

func (*And) kind() kind             { return kindAnd }
func (*Or) kind() kind              { return kindOr }
func (*Nor) kind() kind             { return kindNor }
func (*Not) kind() kind             { return kindNot }
func (n *Comparison) kind() kind    { return [...]kind{kindEq, kindLt, kindLte, kindGt, kindGte}[n.Op] }
func (*In) kind() kind              { return kindIn }
func (*Exists) kind() kind          { return kindExists }
func (*TypeOp) kind() kind          { return kindType }
func (*Regex) kind() kind           { return kindRegex }
func (*Mod) kind() kind             { return kindMod }
func (*Size) kind() kind            { return kindSize }
func (*ElemMatchObject) kind() kind { return kindElemMatchObject }
func (*ElemMatchValue) kind() kind  { return kindElemMatchValue }
func (n *BitTest) kind() kind       { return kindBitsAllSet + kind(n.Test) }
func (*Expr) kind() kind            { return kindExpr }
func (AlwaysFalse) kind() kind      { return kindAlwaysFalse }
func (AlwaysTrue) kind() kind       { return kindAlwaysTrue }

// FieldPath implements Leaf.
func (n *Comparison) FieldPath() *Path { return n.Path }

// FieldPath implements Leaf.
func (n *In) FieldPath() *Path { return n.Path }

// FieldPath implements Leaf.
func (n *Exists) FieldPath() *Path { return n.Path }

// FieldPath implements Leaf.
func (n *TypeOp) FieldPath() *Path { return n.Path }

// FieldPath implements Leaf.
func (n *Regex) FieldPath() *Path { return n.Path }

// FieldPath implements Leaf.
func (n *Mod) FieldPath() *Path { return n.Path }

// FieldPath implements Leaf.
func (n *Size) FieldPath() *Path { return n.Path }

// FieldPath implements Leaf.
func (n *ElemMatchObject) FieldPath() *Path { return n.Path }

// FieldPath implements Leaf.
func (n *ElemMatchValue) FieldPath() *Path { return n.Path }

// FieldPath implements Leaf.
func (n *BitTest) FieldPath() *Path { return n.Path }

// TypeSet is a set of BSON types; AllNumbers stands for the alias "number".
type TypeSet struct {
	AllNumbers bool
	Types      []bson.Type
}

// Has reports whether t is in the set.
func (s TypeSet) Has(t bson.Type) bool {
	if s.AllNumbers && t.IsNumber() {
		return true
	}
	for _, x := range s.Types {
		if x == t {
			return true
		}
	}
	return false
}
