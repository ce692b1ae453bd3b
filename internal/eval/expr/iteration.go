package expr

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// iteration is $map, $filter and $reduce: an expression evaluated for each element of
// an array, with variables bound.
type iteration struct {
	name      string
	input     Expr
	initial   Expr // $reduce
	limit     Expr // $filter
	each      Expr
	as        string
	asGiven   bool
	id, value VarID // the element; $reduce's $$value
}

func parseMap(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	return parseIteration(op, operand, pc, []string{"input", "as", "in"}, iterationCodes{16878, 16879, 16880, 16882, 16883})
}

func parseFilter(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	return parseIteration(op, operand, pc, []string{"input", "as", "cond", "limit"}, iterationCodes{28646, 28647, 28648, 28650, 28651})
}

type iterationCodes struct{ notObject, unknown, noInput, noEach, notArray mongoerr.Code }

func parseIteration(op *Op, operand bson.Value, pc *ParseContext, names []string, codes iterationCodes) (Expr, error) {
	if operand.Type != bson.TypeDocument {
		return nil, mongoerr.New(codes.notObject, "%s only supports an object as its argument", op.Name)
	}
	it := &iteration{name: op.Name, as: "this"}
	var input, each, limit bson.Value
	for k, v := range operand.Doc().Elems() {
		if indexOf(k, names...) < 0 {
			return nil, mongoerr.New(codes.unknown, "Unrecognized parameter to %s: %s", op.Name, k)
		}
		switch k {
		case "input":
			input = v
		case "as":
			if v.Type != bson.TypeString {
				return nil, mongoerr.New(mongoerr.TypeMismatch, "'as' must be a string, found %s", v.Type)
			}
			it.as, it.asGiven = v.Str(), true
		case "limit":
			limit = v
		default:
			each = v
		}
	}
	if input.IsMissing() {
		return nil, mongoerr.New(codes.noInput, "Missing 'input' parameter to %s", op.Name)
	}
	if each.IsMissing() {
		return nil, mongoerr.New(codes.noEach, "Missing '%s' parameter to %s", names[2], op.Name)
	}
	var err error
	if it.input, err = Parse(input, pc); err != nil {
		return nil, err
	}
	if err = CheckVarName(it.as); err != nil {
		return nil, err
	}
	if !limit.IsMissing() {
		if it.limit, err = Parse(limit, pc); err != nil {
			return nil, err
		}
	}
	inner, id := pc.With(it.as)
	it.id = id
	if it.each, err = Parse(each, inner); err != nil {
		return nil, err
	}
	return it, nil
}

func parseReduce(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	if operand.Type != bson.TypeDocument {
		return nil, mongoerr.New(40075, "$reduce requires an object as an argument, found: %s", operand.Type)
	}
	it := &iteration{name: op.Name, as: "this"}
	inner, id := pc.With("this")
	inner, value := inner.With("value")
	it.id, it.value = id, value
	for k, v := range operand.Doc().Elems() {
		var err error
		switch k {
		case "input":
			it.input, err = Parse(v, pc)
		case "initialValue":
			it.initial, err = Parse(v, pc)
		case "in":
			it.each, err = Parse(v, inner)
		default:
			err = mongoerr.New(40076, "$reduce found an unknown argument: %s", k)
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case it.input == nil:
		return nil, mongoerr.New(40077, "$reduce requires 'input' to be specified")
	case it.initial == nil:
		return nil, mongoerr.New(40078, "$reduce requires 'initialValue' to be specified")
	case it.each == nil:
		return nil, mongoerr.New(40079, "$reduce requires 'in' to be specified")
	}
	return it, nil
}

func (m *iteration) Eval(env *Env) (bson.Value, error) {
	in, err := m.input.Eval(env)
	if err != nil {
		return missing, err
	}
	if in.IsNullish() {
		return null, nil
	}
	if in.Type != bson.TypeArray {
		return missing, m.notArray(in)
	}
	old := env.Var(m.id)
	defer env.SetVar(m.id, old)
	switch m.name {
	case "$reduce":
		return m.reduce(env, in)
	case "$filter":
		return m.filter(env, in)
	}
	base := len(env.stack)
	for e := range in.Doc().Values() {
		if err := env.tick(); err != nil {
			return missing, err
		}
		env.SetVar(m.id, e)
		v, err := m.each.Eval(env)
		if err != nil {
			env.stack = env.stack[:base]
			return missing, err
		}
		env.stack = append(env.stack, v)
	}
	return env.popArray(base), nil
}

func (m *iteration) notArray(in bson.Value) error {
	switch m.name {
	case "$reduce":
		return mongoerr.New(40080, "$reduce requires that 'input' be an array, found: %s", ValueText(in))
	case "$filter":
		return mongoerr.New(28651, "input to $filter must be an array not %s", in.Type)
	}
	return mongoerr.New(16883, "input to $map must be an array not %s", in.Type)
}

func (m *iteration) filter(env *Env, in bson.Value) (bson.Value, error) {
	limit := -1
	if m.limit != nil {
		v, err := m.limit.Eval(env)
		if err != nil {
			return missing, err
		}
		if !v.IsNullish() {
			n, ok := asInt32(v)
			if !ok {
				return missing, mongoerr.New(327391, "$filter: limit must be represented as a 32-bit integral value: %s", ValueText(v))
			}
			if n <= 0 {
				return missing, mongoerr.New(327392, "$filter: limit must be greater than 0: %d", n)
			}
			limit = n
		}
	}
	base := len(env.stack)
	for e := range in.Doc().Values() {
		if len(env.stack)-base == limit {
			break
		}
		if err := env.tick(); err != nil {
			return missing, err
		}
		env.SetVar(m.id, e)
		v, err := m.each.Eval(env)
		if err != nil {
			env.stack = env.stack[:base]
			return missing, err
		}
		if v.Truthy() {
			env.stack = append(env.stack, e)
		}
	}
	return env.popArray(base), nil
}

func (m *iteration) reduce(env *Env, in bson.Value) (bson.Value, error) {
	acc, err := m.initial.Eval(env)
	if err != nil {
		return missing, err
	}
	old := env.Var(m.value)
	defer env.SetVar(m.value, old)
	for e := range in.Doc().Values() {
		if err := env.tick(); err != nil {
			return missing, err
		}
		env.SetVar(m.id, e)
		env.SetVar(m.value, acc)
		if acc, err = m.each.Eval(env); err != nil {
			return missing, err
		}
	}
	return acc, nil
}

func (m *iteration) parts() []*Expr { return []*Expr{&m.input, &m.initial, &m.limit, &m.each} }

func (m *iteration) AddDeps(d *Deps) {
	for _, p := range m.parts() {
		if *p != nil {
			(*p).AddDeps(d)
		}
	}
	delete(d.Vars, m.id)
	if m.name == "$reduce" {
		delete(d.Vars, m.value)
	}
}

func (m *iteration) Append(b *bson.Builder, key string) {
	b.Doc(key)
	b.Doc(m.name)
	m.input.Append(b, "input")
	if m.name == "$reduce" {
		m.initial.Append(b, "initialValue")
	} else {
		b.Str("as", m.as)
	}
	if m.name == "$filter" {
		m.each.Append(b, "cond")
	} else {
		m.each.Append(b, "in")
	}
	if m.limit != nil {
		m.limit.Append(b, "limit")
	}
	b.End()
	b.End()
}

func (m *iteration) Optimize() (Expr, error) {
	n := *m
	allConst, err := optimizeParts(n.parts())
	if err != nil {
		return nil, err
	}
	if allConst {
		return fold(&n)
	}
	return &n, nil
}
