package expr

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// zip transposes arrays.
type zip struct {
	inputs   []Expr
	defaults []Expr
	longest  bool
}

func parseZip(_ *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	if operand.Type != bson.TypeDocument {
		return nil, mongoerr.New(34460, "$zip only supports an object as an argument, found %s", operand.Type)
	}
	z := &zip{}
	for k, v := range operand.Doc().Elems() {
		var err error
		switch k {
		case "inputs":
			if v.Type != bson.TypeArray {
				return nil, mongoerr.New(34461, "inputs must be an array of expressions, found %s", v.Type)
			}
			z.inputs, err = parseOperands(v, pc)
		case "defaults":
			if v.Type != bson.TypeArray {
				return nil, mongoerr.New(34462, "defaults must be an array of expressions, found %s", v.Type)
			}
			z.defaults, err = parseOperands(v, pc)
		case "useLongestLength":
			if v.Type != bson.TypeBool {
				return nil, mongoerr.New(34463, "useLongestLength must be a bool, found %s", v.Type)
			}
			z.longest = v.Bool()
		default:
			err = mongoerr.New(34464, "$zip found an unknown argument: %s", k)
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case len(z.inputs) == 0:
		return nil, mongoerr.New(34465, "$zip requires at least one input array")
	case len(z.defaults) > 0 && !z.longest:
		return nil, mongoerr.New(34466, "cannot specify defaults unless useLongestLength is true")
	case len(z.defaults) > 0 && len(z.defaults) != len(z.inputs):
		return nil, mongoerr.New(34467, "defaults and inputs must have the same length")
	}
	return z, nil
}

func (z *zip) Eval(env *Env) (bson.Value, error) {
	var columns [][]bson.Value
	rows := -1
	for _, e := range z.inputs {
		v, err := e.Eval(env)
		if err != nil {
			return missing, err
		}
		if v.IsNullish() {
			return null, nil
		}
		if v.Type != bson.TypeArray {
			return missing, mongoerr.New(34468, "$zip found a non-array expression in input: %s", ValueText(v))
		}
		var col []bson.Value
		for x := range v.Doc().Values() {
			col = append(col, x)
		}
		columns = append(columns, col)
		switch n := len(col); {
		case rows < 0, z.longest && n > rows, !z.longest && n < rows:
			rows = n
		}
	}
	fill := make([]bson.Value, len(columns))
	for i := range fill {
		fill[i] = null
		if i < len(z.defaults) {
			v, err := z.defaults[i].Eval(env)
			if err != nil {
				return missing, err
			}
			fill[i] = v
		}
	}
	base := len(env.stack)
	row := make([]bson.Value, len(columns))
	for r := range rows {
		for c, col := range columns {
			if r < len(col) {
				row[c] = col[r]
			} else {
				row[c] = fill[c]
			}
		}
		env.stack = append(env.stack, env.Array(row))
	}
	return env.popArray(base), nil
}

func (z *zip) AddDeps(d *Deps) {
	for _, e := range z.inputs {
		e.AddDeps(d)
	}
	for _, e := range z.defaults {
		e.AddDeps(d)
	}
}

func (z *zip) Append(b *bson.Builder, key string) {
	b.Doc(key)
	b.Doc("$zip")
	(&array{z.inputs}).Append(b, "inputs")
	if len(z.defaults) > 0 {
		(&array{z.defaults}).Append(b, "defaults")
	}
	b.Bool("useLongestLength", z.longest)
	b.End()
	b.End()
}

func (z *zip) Optimize() (Expr, error) {
	inputs, c1, err := optimizeAll(z.inputs)
	if err != nil {
		return nil, err
	}
	defaults, c2, err := optimizeAll(z.defaults)
	if err != nil {
		return nil, err
	}
	n := &zip{inputs, defaults, z.longest}
	if c1 && c2 {
		return fold(n)
	}
	return n, nil
}
