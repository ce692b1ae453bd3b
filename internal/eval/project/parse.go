package project

import (
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func errf(code mongoerr.Code, format string, args ...any) error {
	return mongoerr.New(code, format, args...)
}

// mode says whose rules a specification follows.
type mode int8

const (
	modeFind mode = iota
	modeProject
	modeAddFields
	modeUnset
)

type parser struct {
	mode mode
	opts Options
	p    *Projection

	typed   bool // an inclusion or exclusion has settled p.kind
	idSpec  bool // _id was included or excluded as a whole
	idKeep  bool
	elem    bool // $elemMatch seen
	compute bool // a computed field other than $meta
}

// Parse reads the projection of a find command.
func Parse(spec bson.Raw, o Options) (*Projection, error) {
	ps := &parser{mode: modeFind, opts: o}
	return ps.parse(spec)
}

// ParseProject reads the argument of the $project stage.
func ParseProject(spec bson.Value, o Options) (*Projection, error) {
	if spec.Type != bson.TypeDocument {
		return nil, errf(15969, "$project specification must be an object")
	}
	if bson.Raw(spec.Data).IsEmpty() {
		return nil, errf(51272, "Invalid $project :: caused by :: projection specification must have at least one field")
	}
	ps := &parser{mode: modeProject, opts: o}
	p, err := ps.parse(bson.Raw(spec.Data))
	return p, inStage("$project", err)
}

// ParseAddFields reads the argument of $addFields or $set (stage names which).
func ParseAddFields(stage string, spec bson.Value, o Options) (*Projection, error) {
	if spec.Type != bson.TypeDocument {
		return nil, errf(40272, "%s specification stage must be an object, got %s", stage, spec.Type)
	}
	if bson.Raw(spec.Data).IsEmpty() {
		return nil, inStage(stage, errf(40177, "specification must have at least one field"))
	}
	ps := &parser{mode: modeAddFields, opts: o}
	p, err := ps.parse(bson.Raw(spec.Data))
	return p, inStage(stage, err)
}

// ParseUnset reads the argument of the $unset stage: a string or an array of strings.
func ParseUnset(spec bson.Value) (*Projection, error) {
	b := bson.NewBuilder(nil)
	switch spec.Type {
	case bson.TypeString:
		b.Int32(spec.Str(), 0)
	case bson.TypeArray:
		if bson.Raw(spec.Data).IsEmpty() {
			return nil, errf(31119, "$unset specification must be a string or an array with at least one field")
		}
		for v := range bson.Raw(spec.Data).Values() {
			if v.Type != bson.TypeString {
				return nil, errf(31120, "$unset specification must be a string or an array containing only string values")
			}
			b.Int32(v.Str(), 0)
		}
	default:
		return nil, errf(31002, "$unset specification must be a string or an array")
	}
	ps := &parser{mode: modeUnset}
	p, err := ps.parse(b.Finish())
	return p, inStage("$unset", err)
}

func inStage(stage string, err error) error {
	e, ok := mongoerr.As(err)
	if !ok || strings.HasPrefix(e.Message, "Invalid "+stage) {
		return err
	}
	c := *e
	c.Message = "Invalid " + stage + " :: caused by :: " + e.Message
	return &c
}

func (ps *parser) parse(spec bson.Raw) (*Projection, error) {
	ps.p = &Projection{root: &node{}, kind: Exclusion}
	if ps.mode == modeAddFields || ps.mode == modeUnset {
		ps.typed = true
	}
	for path, v := range spec.Elems() {
		if err := ps.element("", path, v); err != nil {
			return nil, err
		}
	}
	ps.settle()
	p := ps.p
	p.needsEnv = p.root.computed
	p.simple = p.positional == ""
	for _, f := range p.root.fields {
		p.simple = p.simple && (f.act == actInclude || f.act == actExclude)
	}
	return p, nil
}

// settle decides the kind where nothing did and gives _id its default.
func (ps *parser) settle() {
	p := ps.p
	if !ps.typed {
		switch {
		case ps.idSpec && ps.idKeep, ps.elem, ps.mode == modeProject && ps.compute:
			p.kind = Inclusion
		}
	}
	id := p.root.find("_id")
	switch {
	case p.kind == Inclusion && id == nil:
		p.root.fields = append([]*field{{name: "_id", act: actInclude}}, p.root.fields...)
	case p.kind == Exclusion && id != nil && id.act == actInclude:
		p.root.remove("_id")
	}
}

func (n *node) remove(name string) {
	for i, f := range n.fields {
		if f.name == name {
			n.fields = append(n.fields[:i:i], n.fields[i+1:]...)
			return
		}
	}
}

// setKind notes that an inclusion, exclusion or computed field settles the kind.
func (ps *parser) setKind(k Kind, path string) error {
	if !ps.typed {
		ps.typed, ps.p.kind = true, k
		return nil
	}
	switch {
	case ps.p.kind == k:
		return nil
	case k == Inclusion:
		return errf(31253, "Cannot do inclusion on field %s in exclusion projection", path)
	}
	return errf(31254, "Cannot do exclusion on field %s in inclusion projection", path)
}

func join(prefix, path string) string {
	if prefix == "" {
		return path
	}
	return prefix + "." + path
}

// element parses one field of the specification, or of a nested one below prefix.
func (ps *parser) element(prefix, name string, v bson.Value) error {
	path := join(prefix, name)
	if ps.mode != modeAddFields && ps.mode != modeUnset && isPositional(path) {
		return ps.positional(path, v)
	}
	if err := checkPath(name); err != nil {
		return err
	}
	if ps.mode == modeAddFields && prefix != "" && strings.Contains(name, ".") {
		return errf(40183, "cannot use dotted field name '%s' in a sub object", name)
	}
	if ps.mode != modeAddFields && (v.IsNumber() || v.Type == bson.TypeBool) {
		return ps.flag(path, v)
	}
	if v.Type == bson.TypeDocument {
		return ps.object(path, v)
	}
	return ps.computed(path, v)
}

func (ps *parser) flag(path string, v bson.Value) error {
	keep := v.Truthy()
	if path == "_id" {
		ps.idSpec, ps.idKeep = true, keep
	} else {
		k := Exclusion
		if keep {
			k = Inclusion
		}
		if err := ps.setKind(k, path); err != nil {
			return err
		}
	}
	f := &field{act: actExclude}
	if keep {
		f.act = actInclude
	}
	return ps.p.root.insert(path, f)
}

// object parses {…} under a path: an operator or a nested specification.
func (ps *parser) object(path string, v bson.Value) error {
	d := bson.Raw(v.Data)
	key, arg := d.First()
	if arg.IsMissing() {
		if ps.mode == modeAddFields {
			return errf(40180, "an empty object is not a valid value. Found empty object at path %s", path)
		}
		return errf(51270, "Invalid empty sub-projection: %s", path)
	}
	if !strings.HasPrefix(key, "$") || (d.Len() > 1 && ps.mode != modeAddFields) {
		for name, sub := range d.Elems() {
			if err := ps.element(path, name, sub); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case key == "$slice" && ps.mode == modeFind:
		return ps.sliceOp(path, v, arg)
	case key == "$elemMatch" && ps.mode == modeFind:
		return ps.elemMatch(path, v, arg)
	case key == "$elemMatch":
		return errf(mongoerr.InvalidPipelineOperator, "Cannot use $elemMatch in this context")
	}
	err := ps.computed(path, v)
	if mongoerr.Is(err, mongoerr.InvalidPipelineOperator) && ps.mode != modeAddFields && expr.Lookup(key) == nil {
		return errf(31325, "Unknown expression %s", key) // a projection names unknown operators in its own words
	}
	return err
}

func (ps *parser) computed(path string, v bson.Value) error {
	key := ""
	if v.Type == bson.TypeDocument {
		key, _ = bson.Raw(v.Data).First()
	}
	e, err := expr.Parse(v, ps.opts.Expr)
	if err != nil {
		return err
	}
	switch o, err := e.Optimize(); {
	case err == nil:
		e = o
	case ps.mode == modeFind:
		return err
	case ps.p.foldErr == nil:
		ps.p.foldErr = err // the pipeline's optimiser reports it
	}
	if ps.mode != modeAddFields && !(key == "$meta" && ps.mode == modeFind) {
		ps.compute = true
		if ps.typed && ps.p.kind == Exclusion {
			if v.Type != bson.TypeDocument {
				return errf(31310, "Cannot use an expression %s: %s in an exclusion projection", path, v)
			}
			return errf(31252, "Cannot use expression other than $meta in exclusion projection")
		}
		ps.typed, ps.p.kind = true, Inclusion
	}
	return ps.p.root.insert(path, &field{act: actCompute, expr: e, spec: v})
}

func isPositional(path string) bool {
	return strings.HasSuffix(path, ".$") || strings.Contains(path, ".$.")
}

func (ps *parser) positional(path string, v bson.Value) error {
	if ps.mode != modeFind {
		return errf(31324, "Cannot use positional projection in aggregation projection")
	}
	if !strings.HasSuffix(path, ".$") || strings.Contains(strings.TrimSuffix(path, ".$"), ".$") {
		return errf(31394, "As of 4.4, it's illegal to specify positional operator in the middle of a path."+
			"Positional projection may only be used at the end, for example: a.b.$. If the query previously used "+
			"a form like a.b.$.d, remove the parts following the '$' and the results will be equivalent.")
	}
	path = strings.TrimSuffix(path, ".$")
	if err := checkPath(path); err != nil {
		return err
	}
	switch {
	case !(v.IsNumber() || v.Type == bson.TypeBool):
		return errf(31271, "positional projection cannot be used with an expression or sub object")
	case !v.Truthy():
		return errf(31395, "positional projection cannot be used with exclusion")
	case ps.p.positional != "":
		return errf(31276, "Cannot specify more than one positional projection per query.")
	case ps.elem:
		return errf(31256, "Cannot specify positional operator and $elemMatch.")
	}
	if ps.opts.Filter == nil {
		return errf(51050, "Projections with a positional operator require a matcher")
	}
	if err := ps.setKind(Inclusion, path); err != nil {
		return err
	}
	ps.p.positional = path
	return ps.p.root.insert(path, &field{act: actInclude, positional: true})
}

func (ps *parser) elemMatch(path string, v, arg bson.Value) error {
	switch {
	case arg.Type != bson.TypeDocument:
		return errf(31274, "elemMatch: Invalid argument, object required, but got %s", arg.Type)
	case ps.p.positional != "":
		return errf(31255, "Cannot specify positional operator and $elemMatch.")
	case strings.Contains(path, "."):
		return errf(31275, "Cannot use $elemMatch projection on a nested field.")
	}
	filter := bson.NewBuilder(nil).Doc(path).Append("$elemMatch", arg).End().Finish()
	m, err := match.Compile(filter, ps.opts.Match)
	if err != nil {
		return err
	}
	ps.elem = true
	return ps.p.root.insert(path, &field{act: actElemMatch, elem: m, spec: v})
}

// sliceOp parses $slice in a find projection. The documented forms are a count and
// [skip, count]; whatever else stands there may still be the aggregation expression of
// the same name, which takes the array itself as its first operand.
func (ps *parser) sliceOp(path string, v, arg bson.Value) error {
	f := &field{act: actSlice, spec: v}
	bad := f.readSlice(arg)
	if bad == nil {
		return ps.p.root.insert(path, f)
	}
	_, err := expr.Parse(v, ps.opts.Expr)
	if err == nil {
		return ps.computed(path, v)
	}
	if e, ok := mongoerr.As(err); ok {
		return errf(e.Code, "Invalid $slice syntax. The given syntax %s did not match the find() syntax because :: %s: %s :: "+
			"The given syntax did not match the expression $slice syntax. :: caused by :: %s", v, bad.Code, bad.Message, e.Message)
	}
	return err
}

// readSlice fills in the window that a $slice asks for, or returns what is wrong with it.
func (f *field) readSlice(arg bson.Value) *mongoerr.Error {
	var window []bson.Value
	switch {
	case arg.IsNumber():
		f.limit = clampInt(arg)
		return nil
	case arg.Type == bson.TypeArray:
		window = slices.Collect(arg.Doc().Values())
	default:
		return mongoerr.New(31273, "$slice only supports numbers and [skip, limit] arrays")
	}
	if len(window) != 2 {
		return mongoerr.New(31272, "$slice array argument should be of form [skip, limit]")
	}
	for i, name := range []string{"skip", "limit"} {
		if !window[i].IsNumber() {
			return mongoerr.New(mongoerr.Code(31257+i), "$slice expects the %s argument to be a number, got %s", name, window[i].Type)
		}
	}
	f.skip, f.limit, f.hasSkip = clampInt(window[0]), clampInt(window[1]), true
	if f.limit < 1 {
		return mongoerr.New(31259, "$slice limit must be positive, got %d", f.limit)
	}
	return nil
}

// clampInt reads a number as an int, out-of-range values as the nearest.
func clampInt(v bson.Value) int64 {
	f, _ := v.AsFloat64()
	switch {
	case f > 1<<31-1:
		return 1<<31 - 1
	case f < -(1 << 31):
		return -(1 << 31)
	case f != f:
		return 0
	}
	return int64(f)
}

// checkPath refuses what cannot be a field path.
func checkPath(path string) error {
	switch {
	case path == "":
		return errf(40352, "FieldPath cannot be constructed with empty string")
	case strings.HasSuffix(path, "."):
		return errf(40353, "FieldPath must not end with a '.'.")
	}
	for name := range strings.SplitSeq(path, ".") {
		switch {
		case name == "":
			return errf(15998, "FieldPath field names may not be empty strings.")
		case name[0] == '$':
			return errf(16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField.")
		case strings.IndexByte(name, 0) >= 0:
			return errf(16411, "FieldPath field names may not contain '\\0'.")
		}
	}
	return nil
}
