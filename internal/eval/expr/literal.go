package expr

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// parseLiteral parses $literal and $const: the operand is taken as it is.
func parseLiteral(_ *Op, operand bson.Value, _ *ParseContext) (Expr, error) {
	return constant{operand}, nil
}

// let binds variables for an expression.
type let struct {
	names []string
	ids   []VarID
	vals  []Expr
	in    Expr
}

func parseLet(_ *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	if operand.Type != bson.TypeDocument {
		return nil, mongoerr.New(16874, "$let only supports an object as its argument")
	}
	var vars, in bson.Value
	for k, v := range operand.Doc().Elems() {
		switch k {
		case "vars":
			vars = v
		case "in":
			in = v
		default:
			return nil, mongoerr.New(16875, "Unrecognized parameter to $let: %s", k)
		}
	}
	if vars.IsMissing() {
		return nil, mongoerr.New(16876, "Missing 'vars' parameter to $let")
	}
	if in.IsMissing() {
		return nil, mongoerr.New(16877, "Missing 'in' parameter to $let")
	}
	if vars.Type != bson.TypeDocument {
		return nil, mongoerr.New(10065, "invalid parameter: expected an object (vars)")
	}
	l := &let{}
	inner := pc
	for k, v := range vars.Doc().Elems() {
		if err := CheckVarName(k); err != nil {
			return nil, err
		}
		e, err := Parse(v, pc)
		if err != nil {
			return nil, err
		}
		var id VarID
		inner, id = inner.With(k)
		l.names, l.ids, l.vals = append(l.names, k), append(l.ids, id), append(l.vals, e)
	}
	var err error
	l.in, err = Parse(in, inner)
	return l, err
}

func (l *let) Eval(env *Env) (bson.Value, error) {
	for i, e := range l.vals {
		v, err := e.Eval(env)
		if err != nil {
			return missing, err
		}
		env.SetVar(l.ids[i], v)
	}
	return l.in.Eval(env)
}

func (l *let) AddDeps(d *Deps) {
	for _, e := range l.vals {
		e.AddDeps(d)
	}
	l.in.AddDeps(d)
	for _, id := range l.ids {
		delete(d.Vars, id)
	}
}

func (l *let) Append(b *bson.Builder, key string) {
	b.Doc(key)
	b.Doc("$let")
	b.Doc("vars")
	for i, e := range l.vals {
		e.Append(b, l.names[i])
	}
	b.End()
	l.in.Append(b, "in")
	b.End()
	b.End()
}

func (l *let) Optimize() (Expr, error) {
	vals, c1, err := optimizeAll(l.vals)
	if err != nil {
		return nil, err
	}
	in, err := l.in.Optimize()
	if err != nil {
		return nil, err
	}
	n := &let{l.names, l.ids, vals, in}
	if _, ok := in.(constant); ok {
		return in, nil
	}
	if d := DepsOf(n); c1 && len(d.Paths) == 0 && !d.Whole && len(d.Vars) == 0 && len(d.Meta) == 0 && !d.Impure && !usesSystemVars(in) {
		return fold(n)
	}
	return n, nil
}

// usesSystemVars reports whether folding would lose $$NOW and its like.
func usesSystemVars(e Expr) bool {
	d := &Deps{}
	e.AddDeps(d)
	return d.System
}
