package match

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// maxParseDepth bounds the nesting of a filter, as MongoDB does.
const maxParseDepth = 100

type parser struct {
	opts  Options
	depth int
	inner bool // below the top level, where $expr and the like are allowed only inside $and/$or/$nor
}

func badValue(format string, args ...any) error {
	return mongoerr.New(mongoerr.BadValue, format, args...)
}

func failedToParse(format string, args ...any) error {
	return mongoerr.New(mongoerr.FailedToParse, format, args...)
}

// Parse parses a filter into a tree that mirrors it, not optimised.
func Parse(filter bson.Raw, o Options) (Node, error) {
	p := &parser{opts: o}
	n, err := p.document(filter)
	if err == nil && o.Collation != nil {
		err = setCollation(n, o.Collation)
	}
	return n, err
}

// document parses a filter document: the conjunction of its elements.
func (p *parser) document(d bson.Raw) (Node, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxParseDepth {
		return nil, badValue("exceeded maximum query tree depth of %d at %s", maxParseDepth, d)
	}
	and := &And{}
	for key, v := range d.Elems() {
		var n Node
		var err error
		dbRef := p.inner && (key == "$ref" || key == "$id" || key == "$db") // a DBRef's field, in an $elemMatch
		switch {
		case strings.HasPrefix(key, "$") && !dbRef:
			n, err = p.topLevel(key, v)
		case isOperatorDocument(v, false):
			err = p.field(NewPath(key), bson.Raw(v.Data), &and.Kids)
		case v.Type == bson.TypeRegex:
			n, err = newRegex(NewPath(key), v.Regex())
		default:
			n, err = parseComparison(NewPath(key), Eq, v)
		}
		if err != nil {
			return nil, err
		}
		if n != nil {
			and.Kids = append(and.Kids, n)
		}
	}
	if len(and.Kids) == 1 {
		return and.Kids[0], nil
	}
	return and, nil
}

func (p *parser) topLevel(name string, arg bson.Value) (Node, error) {
	row := find(name, true)
	switch {
	case row == nil:
		return nil, badValue("unknown top level operator: %s. If you have a field name that starts with a '$' symbol, consider using $getField or $setField.", name)
	case row.Status == Missing:
		return nil, row.missing(name, arg)
	}
	return row.parseTop(p, name, arg)
}

func (r *Row) missing(name string, arg bson.Value) error {
	if r.fails != nil {
		return r.fails(arg)
	}
	return notBuilt(name)
}

// notBuilt is the error for what MongoDB has and Cairn does not yet.
func notBuilt(name string) error {
	return mongoerr.New(mongoerr.CommandNotSupported, "%s is not supported by this server", name)
}

// field parses the operators under one path and appends their nodes to kids.
func (p *parser) field(path *Path, ops bson.Raw, kids *[]Node) error {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxParseDepth {
		return badValue("exceeded maximum query tree depth of %d at %s", maxParseDepth, ops)
	}
	for name, arg := range ops.Elems() {
		row := find(name, false)
		switch {
		case row == nil:
			return badValue("unknown operator: %s", name)
		case row.Status == Missing:
			return row.missing(name, arg)
		}
		n, err := row.parseField(p, name, path, arg, ops)
		if err != nil {
			return err
		}
		if n != nil {
			*kids = append(*kids, n)
		}
	}
	return nil
}

// isOperatorDocument reports whether v is a document of operators: its first field
// starts with $ and it is no DBRef.
func isOperatorDocument(v bson.Value, partialDBRef bool) bool {
	if v.Type != bson.TypeDocument {
		return false
	}
	key, first := bson.Raw(v.Data).First()
	return !first.IsMissing() && strings.HasPrefix(key, "$") && !isDBRef(bson.Raw(v.Data), partialDBRef)
}

func isDBRef(d bson.Raw, partial bool) bool {
	var ref, id, db bool
	for k, v := range d.Elems() {
		switch k {
		case "$ref":
			ref = ref || v.Type == bson.TypeString
		case "$id":
			id = true
		case "$db":
			db = db || v.Type == bson.TypeString
		}
	}
	if partial {
		return ref || id || db
	}
	return ref && id
}

func parseLogic(p *parser, name string, arg bson.Value) (Node, error) {
	if arg.Type != bson.TypeArray {
		return nil, badValue("%s must be an array", name)
	}
	var kids []Node
	for v := range bson.Raw(arg.Data).Values() {
		if v.Type != bson.TypeDocument {
			return nil, badValue("$or/$and/$nor entries need to be full objects")
		}
		n, err := p.document(bson.Raw(v.Data))
		if err != nil {
			return nil, err
		}
		kids = append(kids, n)
	}
	if len(kids) == 0 {
		return nil, badValue("$and/$or/$nor must be a nonempty array")
	}
	switch name {
	case "$and":
		return &And{kids}, nil
	case "$or":
		return &Or{kids}, nil
	}
	return &Nor{kids}, nil
}

func parseAlways(_ *parser, name string, arg bson.Value) (Node, error) {
	n, ok := arg.AsInt64()
	if !arg.IsNumber() {
		return nil, failedToParse("Expected a number in: %s: %s", name, arg)
	}
	if !ok || n != 1 {
		return nil, failedToParse("%s must be an integer value of 1", name)
	}
	if name == "$alwaysTrue" {
		return AlwaysTrue{}, nil
	}
	return AlwaysFalse{}, nil
}

func parseTopComment(*parser, string, bson.Value) (Node, error) { return nil, nil }

func parseFieldComment(*parser, string, *Path, bson.Value, bson.Raw) (Node, error) { return nil, nil }

func parseExpr(p *parser, _ string, arg bson.Value) (Node, error) {
	if p.inner {
		return nil, badValue("$expr can only be applied to the top-level document")
	}
	if p.opts.Expr == nil {
		return nil, mongoerr.New(mongoerr.Code(224), "$expr is not allowed in this context")
	}
	fn, err := p.opts.Expr(arg)
	if err != nil {
		return nil, err
	}
	return &Expr{Source: arg, fn: fn}, nil
}

// parseSampleRate is short for an $expr, and is shown as that by explain.
func parseSampleRate(p *parser, name string, arg bson.Value) (Node, error) {
	if !arg.IsNumber() {
		return nil, badValue("argument to %s must be a numeric type", name)
	}
	rate, _ := arg.AsFloat64()
	if !(rate >= 0 && rate <= 1) {
		return nil, badValue("numeric argument to %s must be in [0, 1]", name)
	}
	n, err := parseExpr(p, "$expr", bson.V(bson.D("$lt", bson.A(bson.D("$rand", bson.D()), rate))))
	switch { // where $expr is not allowed these are not either
	case err == nil && rate == 0:
		return AlwaysFalse{}, nil
	case err == nil && rate == 1:
		return AlwaysTrue{}, nil
	}
	return n, err
}

func parseComparison(path *Path, op Op, arg bson.Value) (Node, error) {
	switch arg.Type {
	case bson.TypeUndefined:
		return nil, badValue("cannot compare to undefined")
	case bson.TypeRegex:
		if op != Eq {
			return nil, badValue("Can't have RegEx as arg to predicate over field '%s'.", path)
		}
	}
	return &Comparison{Path: path, Op: op, Value: arg}, nil
}

func parseNe(_ *parser, _ string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
	if arg.Type == bson.TypeRegex {
		return nil, badValue("Can't have regex as arg to $ne.")
	}
	n, err := parseComparison(path, Eq, arg)
	if err != nil {
		return nil, err
	}
	return &Not{n}, nil
}

func parseIn(_ *parser, name string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
	if arg.Type != bson.TypeArray {
		return nil, badValue("%s needs an array", name)
	}
	in := &In{Path: path}
	for v := range bson.Raw(arg.Data).Values() {
		switch {
		case isOperatorDocument(v, false):
			return nil, badValue("cannot nest $ under %s", name)
		case v.Type == bson.TypeRegex:
			r, err := newRegex(path, v.Regex())
			if err != nil {
				return nil, err
			}
			in.Regexes = append(in.Regexes, r)
			// A regular expression also finds itself stored as a value.
		case v.Type == bson.TypeUndefined:
			return nil, badValue("InMatchExpression equality cannot be undefined")
		default:
			in.Values = append(in.Values, v)
		}
	}
	in.prepare()
	return in, nil
}

func parseNin(p *parser, name string, path *Path, arg bson.Value, ops bson.Raw) (Node, error) {
	n, err := parseIn(p, name, path, arg, ops)
	if err != nil {
		return nil, err
	}
	return &Not{n}, nil
}

func parseExists(_ *parser, _ string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
	if arg.Truthy() {
		return &Exists{path}, nil
	}
	return &Not{&Exists{path}}, nil
}

func parseNot(p *parser, _ string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
	if arg.Type == bson.TypeRegex {
		r, err := newRegex(path, arg.Regex())
		if err != nil {
			return nil, err
		}
		return &Not{r}, nil
	}
	if arg.Type != bson.TypeDocument {
		return nil, badValue("$not needs a regex or a document")
	}
	d := bson.Raw(arg.Data)
	if d.IsEmpty() {
		return nil, badValue("$not cannot be empty")
	}
	and := &And{}
	if err := p.field(path, d, &and.Kids); err != nil {
		return nil, err
	}
	if len(and.Kids) == 1 {
		return &Not{and.Kids[0]}, nil
	}
	return &Not{and}, nil
}

func parseAll(p *parser, _ string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
	if arg.Type != bson.TypeArray {
		return nil, badValue("$all needs an array")
	}
	a := bson.Raw(arg.Data)
	if a.IsEmpty() {
		return AlwaysFalse{}, nil
	}
	_, first := a.First()
	elems := isElemMatchDoc(first)
	and := &And{}
	for v := range a.Values() {
		var n Node
		var err error
		switch {
		case elems:
			if !isElemMatchDoc(v) {
				return nil, badValue("$all/$elemMatch has to be consistent")
			}
			_, cond := bson.Raw(v.Data).First()
			n, err = parseElemMatch(p, "$elemMatch", path, cond, nil)
		case isOperatorDocument(v, false):
			return nil, badValue("no $ expressions in $all")
		case v.Type == bson.TypeRegex:
			n, err = newRegex(path, v.Regex())
		default:
			n, err = parseComparison(path, Eq, v)
		}
		if err != nil {
			return nil, err
		}
		and.Kids = append(and.Kids, n)
	}
	if len(and.Kids) == 1 {
		return and.Kids[0], nil
	}
	return and, nil
}

func isElemMatchDoc(v bson.Value) bool {
	if v.Type != bson.TypeDocument {
		return false
	}
	k, _ := bson.Raw(v.Data).First()
	return k == "$elemMatch"
}

func parseElemMatch(p *parser, _ string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
	if arg.Type != bson.TypeDocument {
		return nil, badValue("$elemMatch needs an Object")
	}
	d := bson.Raw(arg.Data)
	onValues := isOperatorDocument(arg, true)
	if onValues {
		switch k, _ := d.First(); k {
		case "$and", "$or", "$nor", "$where":
			onValues = false
		}
	}
	if onValues {
		n := &ElemMatchValue{Path: path}
		if err := p.field(selfPath, d, &n.Kids); err != nil {
			return nil, err
		}
		return n, nil
	}
	wasInner := p.inner
	p.inner = true
	defer func() { p.inner = wasInner }()
	if d.Has("$where") {
		return nil, badValue("$elemMatch cannot contain $where expression")
	}
	kid, err := p.document(d)
	if err != nil {
		return nil, err
	}
	return &ElemMatchObject{path, kid}, nil
}
