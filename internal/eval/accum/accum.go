package accum

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// State gathers the values of one group.
type State interface {
	// Add takes a value, which it copies if it keeps it.
	Add(v bson.Value) error
	// Merge adds what a later part of the same group, saved by Save, gathered.
	Merge(saved bson.Value) error
	// Save writes the state as one value under key.
	Save(b *bson.Builder, key string)
	// Value returns the result, made in env or owned by the state.
	Value(env *expr.Env) bson.Value
	// Size is about how many bytes the state holds beyond its fixed size.
	Size() int
}

// Op is a row of the registry.
type Op struct {
	Name   string
	Since  string
	Status expr.Status
	Help   string

	newState func(f *Field) State
	parse    func(v bson.Value) (expr.Expr, error) // nil: the operand is an expression
}

// Field is one computed field of a $group: {name: {$op: expression}}.
type Field struct {
	Name string
	Op   *Op
	Arg  expr.Expr

	compare func(a, b bson.Value) int
	key     func(dst []byte, v bson.Value) []byte
}

// Options of parsing.
type Options struct {
	Expr *expr.ParseContext
	// Key appends bytes that are equal exactly for equal values; $addToSet needs it.
	Key func(dst []byte, v bson.Value) []byte
}

// New returns an empty state.
func (f *Field) New() State { return f.Op.newState(f) }

// Append shows the field as explain does.
func (f *Field) Append(b *bson.Builder) {
	b.Doc(f.Name)
	f.Arg.Append(b, f.Op.Name)
	b.End()
}

// Lookup returns the row of an accumulator, or nil.
func Lookup(name string) *Op {
	for i := range table {
		if table[i].Name == name {
			return &table[i]
		}
	}
	return nil
}

// Table returns the registry, sorted by name.
func Table() []Op { return table }

// Parse reads one field of a $group other than _id.
func Parse(name string, v bson.Value, o Options) (*Field, error) {
	if strings.Contains(name, ".") {
		return nil, mongoerr.New(40235, "The field name '%s' cannot contain '.'", name)
	}
	if strings.HasPrefix(name, "$") {
		return nil, mongoerr.New(40236, "The field name '%s' cannot be an operator name", name)
	}
	if v.Type != bson.TypeDocument || v.Doc().IsEmpty() {
		return nil, mongoerr.New(40234, "The field '%s' must be an accumulator object", name)
	}
	if v.Doc().Len() != 1 {
		return nil, mongoerr.New(40238, "The field '%s' must specify one accumulator", name)
	}
	opName, arg := v.Doc().First()
	if !strings.HasPrefix(opName, "$") {
		return nil, mongoerr.New(40234, "The field '%s' must be an accumulator object", name)
	}
	op := Lookup(opName)
	if op == nil || op.Status != expr.Implemented {
		return nil, mongoerr.New(15952, "unknown group operator '%s'", opName)
	}
	f := &Field{Name: name, Op: op, compare: bson.Compare, key: o.Key}
	if o.Expr != nil && o.Expr.Collation != nil {
		f.compare = o.Expr.Collation.Compare
	}
	var err error
	switch {
	case op.parse != nil:
		f.Arg, err = op.parse(arg)
	case arg.Type == bson.TypeArray:
		return nil, mongoerr.New(40237, "The %s accumulator is a unary operator", opName)
	default:
		f.Arg, err = expr.Parse(arg, o.Expr)
	}
	return f, err
}

var table = []Op{
	{Name: "$accumulator", Since: "4.4", Status: expr.Missing},
	{Name: "$addToSet", Since: "2.2", Help: "the distinct values", newState: newAddToSet},
	{Name: "$avg", Since: "2.2", Help: "average", newState: newAvg},
	{Name: "$bottom", Since: "5.2", Status: expr.Missing},
	{Name: "$bottomN", Since: "5.2", Status: expr.Missing},
	{Name: "$count", Since: "5.0", Help: "number of documents", newState: newSum, parse: parseCount},
	{Name: "$first", Since: "2.2", Help: "value of the first document", newState: newFirst},
	{Name: "$firstN", Since: "5.2", Status: expr.Missing},
	{Name: "$last", Since: "2.2", Help: "value of the last document", newState: newLast},
	{Name: "$lastN", Since: "5.2", Status: expr.Missing},
	{Name: "$max", Since: "2.2", Help: "greatest value", newState: newMax},
	{Name: "$maxN", Since: "5.2", Status: expr.Missing},
	{Name: "$median", Since: "7.0", Status: expr.Missing},
	{Name: "$mergeObjects", Since: "3.5.6", Help: "merged documents", newState: newMergeObjects},
	{Name: "$min", Since: "2.2", Help: "least value", newState: newMin},
	{Name: "$minN", Since: "5.2", Status: expr.Missing},
	{Name: "$percentile", Since: "7.0", Status: expr.Missing},
	{Name: "$push", Since: "2.2", Help: "all values", newState: newPush},
	{Name: "$stdDevPop", Since: "3.2", Help: "standard deviation of a population", newState: newStdDevPop},
	{Name: "$stdDevSamp", Since: "3.2", Help: "standard deviation of a sample", newState: newStdDevSamp},
	{Name: "$sum", Since: "2.2", Help: "sum", newState: newSum},
	{Name: "$top", Since: "5.2", Status: expr.Missing},
	{Name: "$topN", Since: "5.2", Status: expr.Missing},
}

func parseCount(v bson.Value) (expr.Expr, error) {
	if v.Type != bson.TypeDocument || !v.Doc().IsEmpty() {
		return nil, mongoerr.New(mongoerr.TypeMismatch, "$count takes no arguments, i.e. $count:{}")
	}
	return expr.Constant(bson.V(1)), nil
}
