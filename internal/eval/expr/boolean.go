package expr

import "github.com/cairndb/cairn/internal/bson"

// logical is $and and $or: they stop at the first operand that decides.
type logical struct {
	name   string
	args   []Expr
	decide bool // the truth value that ends the evaluation: false for $and
}

func parseLogical(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	args, err := parseOperands(operand, pc)
	if err != nil {
		return nil, err
	}
	return &logical{op.Name, args, op.Name == "$or"}, nil
}

func (l *logical) Eval(env *Env) (bson.Value, error) {
	for _, a := range l.args {
		v, err := a.Eval(env)
		if err != nil {
			return missing, err
		}
		if v.Truthy() == l.decide {
			return boolValue(l.decide), nil
		}
	}
	return boolValue(!l.decide), nil
}

func (l *logical) AddDeps(d *Deps) {
	for _, a := range l.args {
		a.AddDeps(d)
	}
}

func (l *logical) Append(b *bson.Builder, key string) {
	b.Doc(key)
	(&array{l.args}).Append(b, l.name)
	b.End()
}

// Optimize drops constants that do not decide; one that does is the result.
func (l *logical) Optimize() (Expr, error) {
	n := &logical{name: l.name, decide: l.decide}
	for _, a := range l.args {
		o, err := a.Optimize()
		if err != nil {
			return nil, err
		}
		if c, ok := ConstantValue(o); ok {
			if c.Truthy() != l.decide {
				continue
			}
			return constant{boolValue(l.decide)}, nil
		}
		n.args = append(n.args, o)
	}
	if len(n.args) == 0 {
		return constant{boolValue(!l.decide)}, nil
	}
	return n, nil
}

func evalNot(_ *Env, _ *call, args []bson.Value) (bson.Value, error) {
	return boolValue(!args[0].Truthy()), nil
}

// Operands returns the operands of an $and, for planners that split predicates.
func Operands(e Expr) ([]Expr, bool) {
	l, ok := e.(*logical)
	if !ok || l.decide {
		return nil, false
	}
	return l.args, true
}
