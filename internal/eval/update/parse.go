package update

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func badValue(format string, args ...any) error {
	return mongoerr.New(mongoerr.BadValue, format, args...)
}

func failedToParse(format string, args ...any) error {
	return mongoerr.New(mongoerr.FailedToParse, format, args...)
}

func typeMismatch(format string, args ...any) error {
	return mongoerr.New(mongoerr.TypeMismatch, format, args...)
}

type parser struct {
	opts Options
	u    *Update
	used map[string]bool // array filter identifiers met in paths
}

// Parse reads the update of an update command: a document or, for a pipeline, an array.
func Parse(v bson.Value, o Options) (*Update, error) {
	switch v.Type {
	case bson.TypeArray:
		return parsePipeline(bson.Array(v.Data), o)
	case bson.TypeDocument:
	default:
		return nil, failedToParse("Update argument must be either an object or an array")
	}
	d := bson.Raw(v.Data)
	if first, e := d.First(); e.IsMissing() || !strings.HasPrefix(first, "$") {
		return parseReplacement(d, o)
	}
	p := &parser{opts: o, u: &Update{kind: Operators, root: &node{}}}
	if err := p.arrayFilters(); err != nil {
		return nil, err
	}
	for name, arg := range d.Elems() {
		if err := p.operator(name, arg); err != nil {
			return nil, err
		}
	}
	for id := range p.u.filters {
		if !p.used[id] {
			return nil, failedToParse("The array filter for identifier '%s' was not used in the update %s", id, d)
		}
	}
	p.u.root.sort()
	return p.u, nil
}

func parsePipeline(stages bson.Array, o Options) (*Update, error) {
	if o.HasArrayFilters {
		return nil, failedToParse("arrayFilters may not be specified for pipeline-syle updates")
	}
	if o.Pipeline == nil {
		return nil, failedToParse("Update argument must be an object")
	}
	fn, err := o.Pipeline(stages)
	if err != nil {
		return nil, err
	}
	return &Update{kind: Pipeline, pipeline: fn}, nil
}

func parseReplacement(d bson.Raw, o Options) (*Update, error) {
	switch {
	case o.Multi:
		return nil, failedToParse("multi update is not supported for replacement-style update")
	case o.HasArrayFilters:
		return nil, failedToParse("arrayFilters may not be specified for replacement-syle updates")
	}
	return &Update{kind: Replacement, replace: d}, nil
}

func (p *parser) operator(name string, arg bson.Value) error {
	row := find(name)
	if row == nil {
		return failedToParse("Unknown modifier: %s. Expected a valid update modifier or pipeline-style update specified as an array", name)
	}
	if arg.Type != bson.TypeDocument {
		return failedToParse("Modifiers operate on fields but we found type %s instead. For example: {$mod: {<field>: ...}} not {%s: %s}", arg.Type, name, arg)
	}
	for path, v := range bson.Raw(arg.Data).Elems() {
		if name == "$rename" {
			if err := p.rename(path, v); err != nil {
				return err
			}
			continue
		}
		parts, err := p.path(path)
		if err != nil {
			return err
		}
		m, err := row.parse(p, path, v)
		if err != nil {
			return err
		}
		if err := p.add(path, parts, m); err != nil {
			return err
		}
		p.u.deep = p.u.deep || len(parts)+depth(v) > bson.MaxDepth/2
	}
	return nil
}

// depth counts how deeply v nests, up to the limit.
func depth(v bson.Value) int {
	d := v.Doc()
	if d == nil {
		return 0
	}
	most := 0
	for e := range d.Values() {
		if e.Type == bson.TypeDocument || e.Type == bson.TypeArray {
			most = max(most, depth(e))
		}
	}
	return 1 + most
}

// add puts a modifier into the tree.
func (p *parser) add(path string, parts []string, m modifier) error {
	p.u.paths = append(p.u.paths, path)
	return p.u.root.insert(path, parts, m)
}

// path splits and checks an update path.
func (p *parser) path(path string) ([]string, error) {
	if path == "" {
		return nil, mongoerr.New(mongoerr.EmptyFieldName, "An empty update path is not valid.")
	}
	parts := strings.Split(path, ".")
	positional := 0
	for i, part := range parts {
		switch {
		case part == "":
			return nil, mongoerr.New(mongoerr.EmptyFieldName, "The update path '%s' contains an empty field name, which is not allowed.", path)
		case part == "$":
			if i == 0 {
				return nil, badValue("Cannot have positional (i.e. '$') element in the first position in path '%s'", path)
			}
			if positional++; positional > 1 {
				return nil, badValue("Too many positional (i.e. '$') elements found in path '%s'", path)
			}
			p.u.posPath = true
		case strings.HasPrefix(part, "$[") && strings.HasSuffix(part, "]"):
			if i == 0 {
				return nil, badValue("Cannot have array filter identifier (i.e. '$[<id>]') element in the first position in path '%s'", path)
			}
			if id := part[2 : len(part)-1]; id != "" {
				if p.u.filters[id] == nil {
					return nil, badValue("No array filter found for identifier '%s' in path '%s'", id, path)
				}
				if p.used == nil {
					p.used = map[string]bool{}
				}
				p.used[id] = true
			}
		}
	}
	return parts, nil
}

func (p *parser) arrayFilters() error {
	if len(p.opts.ArrayFilters) == 0 {
		return nil
	}
	p.u.filters = map[string]*match.Matcher{}
	for _, f := range p.opts.ArrayFilters {
		n, err := match.Parse(f, p.opts.Match)
		if err != nil {
			e, ok := mongoerr.As(err)
			if !ok {
				return err
			}
			return mongoerr.New(e.Code, "Error parsing array filter :: caused by :: %s", e.Message)
		}
		id := ""
		if err := topField(n, &id); err != nil {
			return err
		}
		switch {
		case id == "":
			return failedToParse("Cannot use an expression without a top-level field name in arrayFilters")
		case !validIdentifier(id):
			return badValue("Error parsing array filter :: caused by :: The top-level field name must be an alphanumeric string beginning with a lowercase letter, found '%s'", id)
		case p.u.filters[id] != nil:
			return failedToParse("Found multiple array filters with the same top-level field name %s", id)
		}
		p.u.filters[strings.Clone(id)] = match.New(match.Optimize(n))
	}
	return nil
}

// topField finds the one first path component that all predicates of n share.
func topField(n match.Node, id *string) error {
	var kids []match.Node
	switch n := n.(type) {
	case *match.And:
		kids = n.Kids
	case *match.Or:
		kids = n.Kids
	case *match.Nor:
		kids = n.Kids
	case *match.Not:
		kids = []match.Node{n.Kid}
	case match.Leaf:
		top := n.FieldPath().Parts()[0]
		if *id != "" && *id != top {
			return failedToParse("Error parsing array filter :: caused by :: Expected a single top-level field name, found '%s' and '%s'", *id, top)
		}
		*id = top
	case *match.Expr:
		return mongoerr.New(mongoerr.Code(224), "$expr is not allowed in this context")
	}
	for _, k := range kids {
		if err := topField(k, id); err != nil {
			return err
		}
	}
	return nil
}

func validIdentifier(id string) bool {
	for i, c := range []byte(id) {
		lower, other := c >= 'a' && c <= 'z', (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
		if !lower && (i == 0 || !other) {
			return false
		}
	}
	return true
}

func (p *parser) rename(from string, v bson.Value) error {
	if v.Type != bson.TypeString {
		return badValue("The 'to' field for $rename must be a string: %s: %s", from, v)
	}
	to := strings.Clone(v.Str())
	if strings.IndexByte(to, 0) >= 0 {
		return badValue("The 'to' field for $rename cannot contain an embedded null byte")
	}
	src, err := p.path(from)
	if err != nil {
		return err
	}
	dst, err := p.path(to)
	if err != nil {
		return err
	}
	if from == to {
		return badValue(`The source and target field for $rename must differ: %s: "%s"`, from, to)
	}
	if strings.HasPrefix(from, to+".") || strings.HasPrefix(to, from+".") {
		return badValue(`The source and target field for $rename must not be on the same path: %s: "%s"`, from, to)
	}
	if dynamic(src) {
		return badValue("The source field for $rename may not be dynamic: %s", from)
	}
	if dynamic(dst) {
		return badValue("The destination field for $rename may not be dynamic: %s", to)
	}
	p.u.deep = true
	if err := p.add(from, src, renameFrom{}); err != nil {
		return err
	}
	m := renameTo{src, dst}
	p.u.renames = append(p.u.renames, m)
	return p.add(to, dst, m)
}

func dynamic(parts []string) bool {
	for _, s := range parts {
		if s[0] == '$' && (s == "$" || s[1] == '[') {
			return true
		}
	}
	return false
}
