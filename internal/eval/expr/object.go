package expr

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func evalMergeObjects(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	var m DocMerger
	for _, v := range args {
		if err := m.Add(v); err != nil {
			return missing, err
		}
	}
	return env.Doc(m.fields), nil
}

// evalMergeObjectsExpr is $mergeObjects as an expression: a single array stands for its
// elements.
func evalMergeObjectsExpr(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	if len(args) == 1 && args[0].Type == bson.TypeArray {
		base := len(env.stack)
		env.push(args[0])
		v, err := evalMergeObjects(env, c, env.stack[base:])
		env.stack = env.stack[:base]
		return v, err
	}
	return evalMergeObjects(env, c, args)
}

// DocMerger merges documents: later fields win and keep the first one's place.
type DocMerger struct {
	fields []Field
	at     map[string]int
}

// Add merges v, which must be a document or null.
func (m *DocMerger) Add(v bson.Value) error {
	if v.IsNullish() {
		return nil
	}
	if v.Type != bson.TypeDocument {
		return mongoerr.New(40400, "$mergeObjects requires object inputs, but input %s is of type %s", ValueText(v), v.Type)
	}
	for k, e := range v.Doc().Elems() {
		m.set(k, e)
	}
	return nil
}

func (m *DocMerger) set(k string, v bson.Value) {
	if m.at == nil {
		m.at = map[string]int{}
	}
	if i, ok := m.at[k]; ok {
		m.fields[i].Value = v
		return
	}
	m.at[k] = len(m.fields)
	m.fields = append(m.fields, Field{k, v})
}

// Fields returns what was merged.
func (m *DocMerger) Fields() []Field { return m.fields }

func evalObjectToArray(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	d := args[0]
	if d.IsNullish() {
		return null, nil
	}
	if d.Type != bson.TypeDocument {
		return missing, mongoerr.New(40390, "$objectToArray requires a document input, found: %s", d.Type)
	}
	base := len(env.stack)
	for k, v := range d.Doc().Elems() {
		env.stack = append(env.stack, env.Doc([]Field{{"k", env.Str(k)}, {"v", v}}))
	}
	return env.popArray(base), nil
}

func evalArrayToObject(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	a := args[0]
	if a.IsNullish() {
		return null, nil
	}
	if a.Type != bson.TypeArray {
		return missing, mongoerr.New(40386, "$arrayToObject requires an array input, found: %s", a.Type)
	}
	var m DocMerger
	kind := bson.TypeMissing
	for e := range a.Doc().Values() {
		if kind == bson.TypeMissing {
			kind = e.Type
			if kind != bson.TypeArray && kind != bson.TypeDocument {
				return missing, mongoerr.New(40398, "Unrecognised input type format for $arrayToObject: %s", kind)
			}
		}
		var k string
		var v bson.Value
		var err error
		if kind == bson.TypeArray {
			k, v, err = pairFromArray(e)
		} else {
			k, v, err = pairFromDoc(e)
		}
		if err != nil {
			return missing, err
		}
		m.set(k, v)
	}
	return env.Doc(m.fields), nil
}

func pairFromArray(e bson.Value) (string, bson.Value, error) {
	if e.Type != bson.TypeArray {
		return "", missing, mongoerr.New(40396, "$arrayToObject requires a consistent input format. Elements must all be arrays or all be objects. Array was detected, now found: %s", e.Type)
	}
	if n := e.Doc().Len(); n != 2 {
		return "", missing, mongoerr.New(40397, "$arrayToObject requires an array of size 2 arrays,found array of size: %d", n)
	}
	k := elemAt(e, 0)
	if k.Type != bson.TypeString {
		return "", missing, mongoerr.New(40395, "$arrayToObject requires an array of key-value pairs, where the key must be of type string. Found key type: %s", k.Type)
	}
	return checkKey(k, elemAt(e, 1))
}

func pairFromDoc(e bson.Value) (string, bson.Value, error) {
	if e.Type != bson.TypeDocument {
		return "", missing, mongoerr.New(40391, "$arrayToObject requires a consistent input format. Elements must all be arrays or all be objects. Object was detected, now found: %s", e.Type)
	}
	if n := e.Doc().Len(); n != 2 {
		return "", missing, mongoerr.New(40392, "$arrayToObject requires an object keys of 'k' and 'v'. Found incorrect number of keys:%d", n)
	}
	k, v := e.Doc().Get("k"), e.Doc().Get("v")
	if k.IsMissing() || v.IsMissing() {
		return "", missing, mongoerr.New(40393, "$arrayToObject requires an object with keys 'k' and 'v'. Missing either or both keys from: %s", ValueText(e))
	}
	if k.Type != bson.TypeString {
		return "", missing, mongoerr.New(40394, "$arrayToObject requires an object with keys 'k' and 'v', where the value of 'k' must be of type string. Found type: %s", k.Type)
	}
	return checkKey(k, v)
}

func checkKey(k, v bson.Value) (string, bson.Value, error) {
	if strings.IndexByte(k.Str(), 0) >= 0 {
		return "", missing, mongoerr.New(4940400, "Key field cannot contain an embedded null byte")
	}
	return k.Str(), v, nil
}

// fieldAccess is $getField, $setField and $unsetField: the field's name may hold dots
// and dollars.
type fieldAccess struct {
	name         string
	field        Expr // nil: fixed
	fixed        string
	input, value Expr
}

func parseGetField(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	f := &fieldAccess{name: op.Name}
	var field bson.Value
	if operand.Type == bson.TypeDocument && !strings.HasPrefix(firstKey(operand), "$") {
		for k, v := range operand.Doc().Elems() {
			switch k {
			case "field":
				field = v
			case "input":
				e, err := Parse(v, pc)
				if err != nil {
					return nil, err
				}
				f.input = e
			default:
				return nil, mongoerr.New(3041701, "$getField found an unknown argument: %s", k)
			}
		}
		if field.IsMissing() {
			return nil, mongoerr.New(3041702, "$getField requires 'field' to be specified")
		}
		if f.input == nil {
			return nil, mongoerr.New(3041703, "$getField requires 'input' to be specified")
		}
	} else {
		field = operand
		f.input = &systemVar{systemVarByName("CURRENT"), fieldPath{}}
		if id, ok := pc.Lookup("CURRENT"); ok {
			f.input = &userVar{id: id, name: "CURRENT"}
		}
	}
	e, err := Parse(field, pc)
	if err != nil {
		return nil, err
	}
	return f, f.setName(e, 5654602)
}

func firstKey(v bson.Value) string {
	k, _ := v.Doc().First()
	return k
}

func systemVarByName(name string) *systemVarDef {
	for i := range systemVars {
		if systemVars[i].name == name {
			return &systemVars[i]
		}
	}
	return nil
}

// setName takes the expression of the field's name; a constant must be a string.
func (f *fieldAccess) setName(e Expr, code mongoerr.Code) error {
	if o, err := e.Optimize(); err == nil {
		e = o
	}
	v, ok := ConstantValue(e)
	if !ok {
		if f.name != "$getField" {
			return mongoerr.New(4161106, "%s requires 'field' to evaluate to a constant, but got a non-constant argument", f.name)
		}
		f.field = e
		return nil
	}
	if v.Type != bson.TypeString {
		return mongoerr.New(code, "%s requires 'field' to evaluate to a constant String, but got %s", f.name, v.Type)
	}
	f.fixed = v.Str()
	return nil
}

func parseSetField(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	if operand.Type != bson.TypeDocument {
		return nil, mongoerr.New(4161100, "%s only supports an object as its argument", op.Name)
	}
	f := &fieldAccess{name: op.Name}
	var field Expr
	for k, v := range operand.Doc().Elems() {
		e, err := Parse(v, pc)
		if err != nil {
			return nil, err
		}
		switch {
		case k == "field":
			field = e
		case k == "input":
			f.input = e
		case k == "value" && op.Name == "$setField":
			f.value = e
		default:
			return nil, mongoerr.New(4161101, "%s found an unknown argument: %s", op.Name, k)
		}
	}
	if op.Name == "$unsetField" {
		f.value = constant{}
	}
	switch {
	case field == nil:
		return nil, mongoerr.New(4161102, "%s requires 'field' to be specified", op.Name)
	case f.value == nil:
		return nil, mongoerr.New(4161103, "%s requires 'value' to be specified", op.Name)
	case f.input == nil:
		return nil, mongoerr.New(4161109, "%s requires 'input' to be specified", op.Name)
	}
	return f, f.setName(field, 4161107)
}

func (f *fieldAccess) Eval(env *Env) (bson.Value, error) {
	name := f.fixed
	if f.field != nil {
		v, err := f.field.Eval(env)
		if err != nil {
			return missing, err
		}
		if v.Type != bson.TypeString {
			return missing, mongoerr.New(3041704, "$getField requires 'field' to evaluate to type String, but got %s", v.Type)
		}
		name = v.Str()
	}
	in, err := f.input.Eval(env)
	if err != nil {
		return missing, err
	}
	if f.name == "$getField" {
		if in.IsNullish() {
			return in, nil
		}
		if in.Type != bson.TypeDocument {
			return missing, nil
		}
		return in.Doc().Get(name), nil
	}
	if in.IsNullish() {
		return null, nil
	}
	if in.Type != bson.TypeDocument {
		return missing, mongoerr.New(4161105, "%s requires 'input' to evaluate to type Object", f.name)
	}
	v, err := f.value.Eval(env)
	if err != nil {
		return missing, err
	}
	var m DocMerger
	for k, e := range in.Doc().Elems() {
		m.set(k, e)
	}
	m.set(name, v)
	return env.Doc(m.fields), nil
}

func (f *fieldAccess) AddDeps(d *Deps) {
	if f.field != nil {
		f.field.AddDeps(d)
	}
	f.input.AddDeps(d)
	if f.value != nil {
		f.value.AddDeps(d)
	}
}

func (f *fieldAccess) Append(b *bson.Builder, key string) {
	b.Doc(key)
	b.Doc(f.name)
	if f.field != nil {
		f.field.Append(b, "field")
	} else {
		constant{bson.V(f.fixed)}.Append(b, "field")
	}
	f.input.Append(b, "input")
	if f.name == "$setField" {
		f.value.Append(b, "value")
	}
	b.End()
	b.End()
}

func (f *fieldAccess) Optimize() (Expr, error) {
	n := *f
	var err error
	if n.input, err = f.input.Optimize(); err != nil {
		return nil, err
	}
	if f.value != nil {
		if n.value, err = f.value.Optimize(); err != nil {
			return nil, err
		}
	}
	return &n, nil
}
