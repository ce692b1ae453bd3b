package expr

import (
	"github.com/cairndb/cairn/internal/bson"
)

// named is an operator whose operands have names: {$op: {input: …, …}}. All are
// evaluated before it; those that were not given are missing.
type named struct {
	op   *Op
	spec *namedSpec
	args []Expr // in the order of spec.names, nil where not given
	cmp  func(a, b bson.Value) int
	data any
}

type namedSpec struct {
	names    []string
	required int // how many of the first names must be given
	// The errors of the parser.
	notObject func(op *Op, v bson.Value) error
	unknown   func(op *Op, name string) error
	absent    func(op *Op, i int, name string) error
	eval      func(env *Env, n *named, args []bson.Value) (bson.Value, error)
	// prepare may check and precompute what is constant after parsing.
	prepare func(n *named) error
}

func (s *namedSpec) parse(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	if operand.Type != bson.TypeDocument {
		return nil, s.notObject(op, operand)
	}
	n := &named{op: op, spec: s, args: make([]Expr, len(s.names)), cmp: pc.compare()}
	for k, v := range operand.Doc().Elems() {
		i := indexOf(k, s.names...)
		if i < 0 {
			return nil, s.unknown(op, k)
		}
		e, err := Parse(v, pc)
		if err != nil {
			return nil, err
		}
		n.args[i] = e
	}
	for i := range s.required {
		if n.args[i] == nil {
			return nil, s.absent(op, i, s.names[i])
		}
	}
	if s.prepare != nil {
		if err := s.prepare(n); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *named) given(i int) bool { return n.args[i] != nil }

func (n *named) Eval(env *Env) (bson.Value, error) {
	base := len(env.stack)
	for _, a := range n.args {
		var v bson.Value
		if a != nil {
			var err error
			if v, err = a.Eval(env); err != nil {
				env.stack = env.stack[:base]
				return missing, err
			}
		}
		env.stack = append(env.stack, v)
	}
	v, err := n.spec.eval(env, n, env.stack[base:])
	env.stack = env.stack[:base]
	return v, err
}

func (n *named) AddDeps(d *Deps) {
	for _, a := range n.args {
		if a != nil {
			a.AddDeps(d)
		}
	}
}

func (n *named) Append(b *bson.Builder, key string) {
	b.Doc(key)
	b.Doc(n.op.Name)
	for i, a := range n.args {
		if a != nil {
			a.Append(b, n.spec.names[i])
		}
	}
	b.End()
	b.End()
}

func (n *named) Optimize() (Expr, error) {
	args, allConst, err := optimizeAll(n.args)
	if err != nil {
		return nil, err
	}
	c := *n
	c.args = args
	if allConst && !n.op.impure {
		return fold(&c)
	}
	return &c, nil
}
