package expr

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Expr is a parsed expression. It is immutable and may be shared between goroutines,
// each with its own Env.
type Expr interface {
	// Eval computes the value; missing is a possible value.
	Eval(env *Env) (bson.Value, error)
	// AddDeps adds to d what the expression reads.
	AddDeps(d *Deps)
	// Append adds the expression to b under key, as explain shows it.
	Append(b *bson.Builder, key string)
	// Optimize folds constants. Its error is what evaluating a constant part gave.
	Optimize() (Expr, error)
}

// VarID names a user variable inside one operation.
type VarID int

type binding struct {
	name string
	id   VarID
	up   *binding
}

// ParseContext holds the variables in scope and the settings of the operation.
// nil stands for no variables and no collation.
type ParseContext struct {
	// Collation orders strings; nil is the simple one.
	Collation *collate.Collator

	scope *binding
	next  *VarID
	depth int
}

// NewParseContext returns a context without user variables.
func NewParseContext() *ParseContext { return &ParseContext{next: new(VarID)} }

// With returns a context in which the user variable name is bound, and its id. The
// name must have passed CheckVarName.
func (pc *ParseContext) With(name string) (*ParseContext, VarID) {
	c := *pc.orNew()
	id := *c.next
	*c.next++
	c.scope = &binding{name, id, c.scope}
	return &c, id
}

func (pc *ParseContext) orNew() *ParseContext {
	if pc == nil {
		return NewParseContext()
	}
	if pc.next == nil {
		c := *pc
		c.next = new(VarID)
		return &c
	}
	return pc
}

// Lookup returns the id of a user variable in scope.
func (pc *ParseContext) Lookup(name string) (VarID, bool) {
	if pc == nil {
		return 0, false
	}
	for s := pc.scope; s != nil; s = s.up {
		if s.name == name {
			return s.id, true
		}
	}
	return 0, false
}

func (pc *ParseContext) compare() func(a, b bson.Value) int {
	if pc != nil && pc.Collation != nil {
		return pc.Collation.Compare
	}
	return bson.Compare
}

// CheckVarName reports MongoDB's error for a name that a user variable must not have.
func CheckVarName(name string) error {
	if name == "" {
		return mongoerr.New(16866, "empty variable names are not allowed")
	}
	if name == "CURRENT" {
		return nil
	}
	if c := name[0]; !(c >= 'a' && c <= 'z') && c < 0x80 {
		return mongoerr.New(16867, "'%s' starts with an invalid character for a user variable name", name)
	}
	return checkVarChars(name)
}

func checkVarChars(name string) error {
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80 {
			continue
		}
		return mongoerr.New(16868, "'%s' contains an invalid character for a variable name: '%c'", name, c)
	}
	return nil
}

// maxDepth bounds the nesting of a parsed expression.
const maxDepth = 200

// Parse parses an operand: a field path or variable ("$a", "$$v.a"), an operator, an
// object or array of expressions, or a constant. The result aliases v.
func Parse(v bson.Value, pc *ParseContext) (Expr, error) {
	pc = pc.orNew()
	if pc.depth >= maxDepth {
		return nil, mongoerr.New(mongoerr.Overflow, "expression is nested too deeply")
	}
	inner := *pc
	inner.depth++
	switch v.Type {
	case bson.TypeString:
		if s := v.Str(); strings.HasPrefix(s, "$") {
			return parsePath(s, pc)
		}
	case bson.TypeDocument:
		return parseObject(v.Doc(), &inner)
	case bson.TypeArray:
		return parseArray(v.Doc(), &inner)
	}
	return constant{v}, nil
}

// ParseOperator parses {$op: …} given as its name and operand.
func ParseOperator(name string, operand bson.Value, pc *ParseContext) (Expr, error) {
	op := Lookup(name)
	if op == nil {
		return nil, mongoerr.New(mongoerr.InvalidPipelineOperator, "Unrecognized expression '%s'", name)
	}
	if op.Status != Implemented {
		return nil, mongoerr.New(mongoerr.InvalidPipelineOperator, "Unrecognized expression '%s'", name)
	}
	pc = pc.orNew()
	if op.parse != nil {
		return op.parse(op, operand, pc)
	}
	args, err := parseArgs(op, operand, pc)
	if err != nil {
		return nil, err
	}
	return &call{op: op, args: args, cmp: pc.compare(), pc: pc}, nil
}

func parseArgs(op *Op, operand bson.Value, pc *ParseContext) ([]Expr, error) {
	args, err := parseOperands(operand, pc)
	if err != nil {
		return nil, err
	}
	if err := checkArity(op, len(args)); err != nil {
		return nil, err
	}
	return args, nil
}

// parseOperands parses an array of operands; anything else is a single one.
func parseOperands(operand bson.Value, pc *ParseContext) ([]Expr, error) {
	if operand.Type != bson.TypeArray {
		e, err := Parse(operand, pc)
		if err != nil {
			return nil, err
		}
		return []Expr{e}, nil
	}
	var args []Expr
	for v := range operand.Doc().Values() {
		e, err := Parse(v, pc)
		if err != nil {
			return nil, err
		}
		args = append(args, e)
	}
	return args, nil
}

func checkArity(op *Op, n int) error {
	switch {
	case op.Max < 0 && n >= op.Min:
		return nil
	case op.Max < 0:
		return mongoerr.New(28667, "Expression %s takes at least %d arguments, but %d were passed in.", op.Name, op.Min, n)
	case n >= op.Min && n <= op.Max:
		return nil
	case op.Min == op.Max:
		return mongoerr.New(16020, "Expression %s takes exactly %d arguments. %d were passed in.", op.Name, op.Min, n)
	}
	return mongoerr.New(28667, "Expression %s takes at least %d arguments, and at most %d, but %d were passed in.",
		op.Name, op.Min, op.Max, n)
}

func parseObject(d bson.Raw, pc *ParseContext) (Expr, error) {
	if k, v := d.First(); strings.HasPrefix(k, "$") {
		if d.Len() != 1 {
			return nil, mongoerr.New(15983, "an expression specification must contain exactly one field, the name of the expression. Found %d fields in %s",
				d.Len(), ToJSON(d.Value()))
		}
		return ParseOperator(k, v, pc)
	}
	o := &object{}
	seen := map[string]bool{}
	for k, v := range d.Elems() {
		if err := checkFieldName(k); err != nil {
			return nil, err
		}
		if seen[k] {
			return nil, mongoerr.New(16406, "duplicate field name specified in object literal: %s", ToJSON(d.Value()))
		}
		seen[k] = true
		e, err := Parse(v, pc)
		if err != nil {
			return nil, err
		}
		o.keys, o.vals = append(o.keys, k), append(o.vals, e)
	}
	return o, nil
}

func parseArray(d bson.Raw, pc *ParseContext) (Expr, error) {
	a := &array{}
	for v := range d.Values() {
		e, err := Parse(v, pc)
		if err != nil {
			return nil, err
		}
		a.elems = append(a.elems, e)
	}
	return a, nil
}

func checkFieldName(k string) error {
	switch {
	case k == "":
		return mongoerr.New(15998, "FieldPath field names may not be empty strings.")
	case k[0] == '$':
		return mongoerr.New(16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField.")
	case strings.Contains(k, "."):
		return mongoerr.New(16412, "FieldPath field names may not contain '.'. Consider using $getField or $setField.")
	}
	return nil
}

// CheckFieldPath reports MongoDB's error for a malformed dotted path.
func CheckFieldPath(path string) error {
	if path == "" {
		return mongoerr.New(40352, "FieldPath cannot be constructed with empty string")
	}
	if strings.HasSuffix(path, ".") {
		return mongoerr.New(40353, "FieldPath must not end with a '.'.")
	}
	for p := range strings.SplitSeq(path, ".") {
		switch {
		case p == "":
			return mongoerr.New(15998, "FieldPath field names may not be empty strings.")
		case p[0] == '$':
			return mongoerr.New(16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField.")
		case strings.IndexByte(p, 0) >= 0:
			return mongoerr.New(16411, "FieldPath field names may not contain '\\0'.")
		}
	}
	if strings.Count(path, ".") >= 200 {
		return mongoerr.New(mongoerr.Overflow, "FieldPath is too long")
	}
	return nil
}

// parsePath parses "$a.b" and "$$var.a".
func parsePath(s string, pc *ParseContext) (Expr, error) {
	if s == "$" {
		return nil, mongoerr.New(16872, "'$' by itself is not a valid FieldPath")
	}
	if !strings.HasPrefix(s, "$$") {
		return newPath(s[1:], pc)
	}
	name, path, dotted := strings.Cut(s[2:], ".")
	if dotted {
		if err := CheckFieldPath(path); err != nil {
			return nil, err
		}
	}
	if name == "" {
		return nil, mongoerr.New(16870, "empty variable names are not allowed")
	}
	if c := name[0]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') && c < 0x80 {
		return nil, mongoerr.New(16870, "'%s' starts with an invalid character for a variable name", name)
	}
	if err := checkVarChars(name); err != nil {
		return nil, err
	}
	if id, ok := pc.Lookup(name); ok {
		return &userVar{id: id, name: name, path: newFieldPath(path)}, nil
	}
	for i := range systemVars {
		if systemVars[i].name == name {
			if (name == "ROOT" || name == "CURRENT") && dotted {
				return &rootPath{newFieldPath(path)}, nil
			}
			return &systemVar{&systemVars[i], newFieldPath(path)}, nil
		}
	}
	return nil, mongoerr.New(17276, "Use of undefined variable: %s", name)
}

func newPath(path string, pc *ParseContext) (Expr, error) {
	if err := CheckFieldPath(path); err != nil {
		return nil, err
	}
	if id, ok := pc.Lookup("CURRENT"); ok {
		return &userVar{id: id, name: "CURRENT", path: newFieldPath(path)}, nil
	}
	return &rootPath{newFieldPath(path)}, nil
}

// NewPath returns the expression "$path" on the root document.
func NewPath(path string) (Expr, error) { return newPath(path, nil) }

// Lookup returns the registry's row of an operator, or nil.
func Lookup(name string) *Op {
	indexOnce.Do(func() {
		t := Table()
		index = make(map[string]*Op, len(t))
		for i := range t {
			index[t[i].Name] = &t[i]
		}
	})
	return index[name]
}
