package expr

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// branching is $cond and $switch: the first case that is true chooses.
type branching struct {
	name        string
	cases, then []Expr
	otherwise   Expr // nil: no default
}

func parseCond(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	b := &branching{name: op.Name}
	if operand.Type != bson.TypeDocument {
		args, err := parseOperands(operand, pc)
		if err != nil {
			return nil, err
		}
		if len(args) != 3 {
			return nil, checkArity(&Op{Name: op.Name, Min: 3, Max: 3}, len(args))
		}
		b.cases, b.then, b.otherwise = args[:1], args[1:2], args[2]
		return b, nil
	}
	var parts [3]Expr
	for k, v := range operand.Doc().Elems() {
		i := indexOf(k, "if", "then", "else")
		if i < 0 {
			return nil, mongoerr.New(17083, "Unrecognized parameter to $cond: %s", k)
		}
		e, err := Parse(v, pc)
		if err != nil {
			return nil, err
		}
		parts[i] = e
	}
	for i, name := range []string{"if", "then", "else"} {
		if parts[i] == nil {
			return nil, mongoerr.New(17080+mongoerr.Code(i), "Missing '%s' parameter to $cond", name)
		}
	}
	b.cases, b.then, b.otherwise = parts[:1], parts[1:2], parts[2]
	return b, nil
}

func indexOf(s string, in ...string) int {
	for i, x := range in {
		if x == s {
			return i
		}
	}
	return -1
}

func parseSwitch(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	if operand.Type != bson.TypeDocument {
		return nil, mongoerr.New(40060, "$switch requires an object as an argument, found: %s", operand.Type)
	}
	b := &branching{name: op.Name}
	for k, v := range operand.Doc().Elems() {
		switch k {
		case "branches":
			if v.Type != bson.TypeArray {
				return nil, mongoerr.New(40061, "$switch expected an array for 'branches', found: %s", v.Type)
			}
			for e := range v.Doc().Values() {
				if err := b.addBranch(e, pc); err != nil {
					return nil, err
				}
			}
		case "default":
			e, err := Parse(v, pc)
			if err != nil {
				return nil, err
			}
			b.otherwise = e
		default:
			return nil, mongoerr.New(40067, "$switch found an unknown argument: %s", k)
		}
	}
	if len(b.cases) == 0 {
		return nil, mongoerr.New(40068, "$switch requires at least one branch.")
	}
	return b, nil
}

func (b *branching) addBranch(v bson.Value, pc *ParseContext) error {
	if v.Type != bson.TypeDocument {
		return mongoerr.New(40062, "$switch expected each branch to be an object, found: %s", v.Type)
	}
	var cond, then Expr
	for k, v := range v.Doc().Elems() {
		if k != "case" && k != "then" {
			return mongoerr.New(40063, "$switch found an unknown argument to a branch: %s", k)
		}
		e, err := Parse(v, pc)
		if err != nil {
			return err
		}
		if k == "case" {
			cond = e
		} else {
			then = e
		}
	}
	if cond == nil {
		return mongoerr.New(40064, "$switch requires each branch have a 'case' expression")
	}
	if then == nil {
		return mongoerr.New(40065, "$switch requires each branch have a 'then' expression.")
	}
	b.cases, b.then = append(b.cases, cond), append(b.then, then)
	return nil
}

func (b *branching) Eval(env *Env) (bson.Value, error) {
	for i, c := range b.cases {
		v, err := c.Eval(env)
		if err != nil {
			return missing, err
		}
		if v.Truthy() {
			return b.then[i].Eval(env)
		}
	}
	if b.otherwise == nil {
		return missing, errNoBranch()
	}
	return b.otherwise.Eval(env)
}

func errNoBranch() error {
	return mongoerr.New(40066, "$switch could not find a matching branch for an input, and no default was specified.")
}

func (b *branching) AddDeps(d *Deps) {
	for i := range b.cases {
		b.cases[i].AddDeps(d)
		b.then[i].AddDeps(d)
	}
	if b.otherwise != nil {
		b.otherwise.AddDeps(d)
	}
}

func (b *branching) Append(bu *bson.Builder, key string) {
	bu.Doc(key)
	if b.name == "$cond" {
		(&array{[]Expr{b.cases[0], b.then[0], b.otherwise}}).Append(bu, b.name)
		bu.End()
		return
	}
	bu.Doc(b.name)
	bu.Array("branches")
	for i := range b.cases {
		bu.Doc("")
		b.cases[i].Append(bu, "case")
		b.then[i].Append(bu, "then")
		bu.End()
	}
	bu.End()
	if b.otherwise != nil {
		b.otherwise.Append(bu, "default")
	}
	bu.End()
	bu.End()
}

// Optimize drops branches that are never taken; a case that is always true becomes the
// default. Only what can be reached is optimized, so that its errors alone are seen.
func (b *branching) Optimize() (Expr, error) {
	n := &branching{name: b.name}
	rest := b.otherwise
	for i, c := range b.cases {
		o, err := c.Optimize()
		if err != nil {
			return nil, err
		}
		if v, ok := ConstantValue(o); ok {
			if v.Truthy() {
				rest = b.then[i]
				break
			}
			continue
		}
		then, err := b.then[i].Optimize()
		if err != nil {
			return nil, err
		}
		n.cases, n.then = append(n.cases, o), append(n.then, then)
	}
	if rest != nil {
		o, err := rest.Optimize()
		if err != nil {
			return nil, err
		}
		n.otherwise = o
	}
	if len(n.cases) > 0 {
		return n, nil
	}
	if n.otherwise == nil {
		return nil, errNoBranch()
	}
	return n.otherwise, nil
}

// ifNull returns its first operand that is not null, else the last one.
type ifNull struct{ args []Expr }

func parseIfNull(_ *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	args, err := parseOperands(operand, pc)
	if err != nil {
		return nil, err
	}
	if len(args) < 2 {
		return nil, mongoerr.New(1257300, "$ifNull needs at least two arguments, had: %d", len(args))
	}
	return &ifNull{args}, nil
}

func (n *ifNull) Eval(env *Env) (v bson.Value, err error) {
	for _, a := range n.args {
		if v, err = a.Eval(env); err != nil || !v.IsNullish() {
			return v, err
		}
	}
	return v, nil
}

func (n *ifNull) AddDeps(d *Deps) {
	for _, a := range n.args {
		a.AddDeps(d)
	}
}

func (n *ifNull) Append(b *bson.Builder, key string) {
	b.Doc(key)
	(&array{n.args}).Append(b, "$ifNull")
	b.End()
}

func (n *ifNull) Optimize() (Expr, error) {
	var args []Expr
	for i, a := range n.args {
		o, err := a.Optimize()
		if err != nil {
			return nil, err
		}
		if v, ok := ConstantValue(o); ok && i < len(n.args)-1 {
			if v.IsNullish() {
				continue
			}
			args = append(args, o)
			break
		}
		args = append(args, o)
	}
	if len(args) == 1 {
		return args[0], nil
	}
	return &ifNull{args}, nil
}
