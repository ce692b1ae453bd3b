package expr

import (
	"github.com/cairndb/cairn/internal/bson"
)

// constant is a value known at parse time.
type constant struct{ v bson.Value }

// Constant returns an expression of a fixed value.
func Constant(v bson.Value) Expr { return constant{v} }

// ConstantValue returns the value of e if it is a constant.
func ConstantValue(e Expr) (bson.Value, bool) {
	c, ok := e.(constant)
	return c.v, ok
}

func (c constant) Eval(*Env) (bson.Value, error) { return c.v, nil }
func (c constant) AddDeps(*Deps)                 {}
func (c constant) Optimize() (Expr, error)       { return c, nil }

func (c constant) Append(b *bson.Builder, key string) {
	if c.v.IsMissing() {
		b.Str(key, "$$REMOVE")
		return
	}
	b.Doc(key)
	b.Append("$const", c.v)
	b.End()
}

// call is an operator whose operands are all evaluated before it.
type call struct {
	op   *Op
	args []Expr
	cmp  func(a, b bson.Value) int
	pc   *ParseContext
}

func (c *call) Eval(env *Env) (bson.Value, error) {
	base := len(env.stack)
	for _, a := range c.args {
		v, err := a.Eval(env)
		if err != nil {
			env.stack = env.stack[:base]
			return missing, err
		}
		env.stack = append(env.stack, v)
	}
	v, err := c.op.eval(env, c, env.stack[base:])
	env.stack = env.stack[:base]
	return v, err
}

func (c *call) AddDeps(d *Deps) {
	if c.op.impure {
		d.Impure = true
	}
	for _, a := range c.args {
		a.AddDeps(d)
	}
}

func (c *call) Append(b *bson.Builder, key string) {
	b.Doc(key)
	b.Array(c.op.Name)
	for _, a := range c.args {
		a.Append(b, "")
	}
	b.End()
	b.End()
}

func (c *call) Optimize() (Expr, error) {
	args, allConst, err := optimizeAll(c.args)
	if err != nil {
		return nil, err
	}
	n := *c
	n.args = args
	if allConst && !c.op.impure {
		return fold(&n)
	}
	return &n, nil
}

// optimizeAll optimizes every expression; nil ones stay nil.
func optimizeAll(es []Expr) (out []Expr, allConst bool, err error) {
	out, allConst = make([]Expr, len(es)), true
	for i, e := range es {
		if e == nil {
			continue
		}
		if out[i], err = e.Optimize(); err != nil {
			return nil, false, err
		}
		if _, ok := out[i].(constant); !ok {
			allConst = false
		}
	}
	return out, allConst, nil
}

// optimizeParts optimizes the operands that are there, in place, and reports whether
// all of them are constants.
func optimizeParts(parts []*Expr) (allConst bool, err error) {
	allConst = true
	for _, p := range parts {
		if *p == nil {
			continue
		}
		if *p, err = (*p).Optimize(); err != nil {
			return false, err
		}
		if _, ok := (*p).(constant); !ok {
			allConst = false
		}
	}
	return allConst, nil
}

// fold evaluates an expression that depends on nothing.
func fold(e Expr) (Expr, error) {
	v, err := e.Eval(&Env{})
	if err != nil {
		return nil, err
	}
	return constant{v.Clone()}, nil
}

// object is {a: expr, …}.
type object struct {
	keys []string
	vals []Expr
}

func (o *object) Eval(env *Env) (bson.Value, error) {
	base := len(env.stack)
	n := 5
	for i, e := range o.vals {
		v, err := e.Eval(env)
		if err != nil {
			env.stack = env.stack[:base]
			return missing, err
		}
		if !v.IsMissing() {
			n += 2 + len(o.keys[i]) + len(v.Data)
		}
		env.stack = append(env.stack, v)
	}
	d := env.alloc(n)
	p := 4
	for i, v := range env.stack[base:] {
		if !v.IsMissing() {
			p += putElem(d[p:], o.keys[i], v)
		}
	}
	env.stack = env.stack[:base]
	d[p] = 0
	d[0], d[1], d[2], d[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	return bson.Value{Type: bson.TypeDocument, Data: d}, nil
}

func (o *object) AddDeps(d *Deps) {
	for _, e := range o.vals {
		e.AddDeps(d)
	}
}

func (o *object) Append(b *bson.Builder, key string) {
	b.Doc(key)
	for i, e := range o.vals {
		e.Append(b, o.keys[i])
	}
	b.End()
}

func (o *object) Optimize() (Expr, error) {
	vals, allConst, err := optimizeAll(o.vals)
	if err != nil {
		return nil, err
	}
	n := &object{o.keys, vals}
	if allConst {
		return fold(n)
	}
	return n, nil
}

// array is [expr, …]; missing elements become null.
type array struct{ elems []Expr }

func (a *array) Eval(env *Env) (bson.Value, error) {
	base := len(env.stack)
	for _, e := range a.elems {
		v, err := e.Eval(env)
		if err != nil {
			env.stack = env.stack[:base]
			return missing, err
		}
		env.stack = append(env.stack, v)
	}
	v := env.Array(env.stack[base:])
	env.stack = env.stack[:base]
	return v, nil
}

func (a *array) AddDeps(d *Deps) {
	for _, e := range a.elems {
		e.AddDeps(d)
	}
}

func (a *array) Append(b *bson.Builder, key string) {
	b.Array(key)
	for _, e := range a.elems {
		e.Append(b, "")
	}
	b.End()
}

func (a *array) Optimize() (Expr, error) {
	elems, allConst, err := optimizeAll(a.elems)
	if err != nil {
		return nil, err
	}
	n := &array{elems}
	if allConst {
		return fold(n)
	}
	return n, nil
}
