package expr

import (
	"sync"

	"github.com/cairndb/cairn/internal/bson"
)

// Status says how much of an operator exists here.
type Status int

// The states of a row. Missing operators are known to MongoDB 8.0 but not built yet:
// using one is MongoDB's error for an unknown operator.
const (
	Implemented Status = iota
	Missing
)

// Op is a row of the registry.
type Op struct {
	Name   string
	Min    int // least number of operands
	Max    int // greatest number, -1 without limit; both 0 for operators with named arguments
	Since  string
	Status Status
	Help   string

	eval   evalFunc
	parse  parseFunc
	impure bool // never folded
}

// evalFunc computes an operator whose operands are all evaluated first. The slice is
// the function's to change.
type evalFunc func(env *Env, c *call, args []bson.Value) (bson.Value, error)

// parseFunc parses an operator with a form of its own.
type parseFunc func(op *Op, operand bson.Value, pc *ParseContext) (Expr, error)

// The index has no initializer: the table's parse functions lead back to it.
var (
	indexOnce sync.Once
	index     map[string]*Op
)
