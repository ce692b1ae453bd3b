package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/project"
)

// projectStage is $project, $addFields, $set and $unset.
type projectStage struct {
	name string
	p    *project.Projection
	// touched are the paths that are removed or computed; with only set, all but kept.
	touched []string
	kept    []string // of an inclusion: what passes unchanged
}

func (o *Options) projectOptions() project.Options {
	return project.Options{Expr: o.Expr, Match: o.matchOptions()}
}

func parseProject(ps *parser, name string, v bson.Value) ([]stage, error) {
	p, err := project.ParseProject(v, ps.o.projectOptions())
	if err != nil {
		return nil, err
	}
	s := &projectStage{name: name, p: p}
	s.classify("", v.Doc())
	if p.Kind() == project.Inclusion && v.Doc().Get("_id").IsMissing() {
		s.kept = append(s.kept, "_id")
	}
	return []stage{s}, nil
}

func parseAddFields(ps *parser, name string, v bson.Value) ([]stage, error) {
	p, err := project.ParseAddFields(name, v, ps.o.projectOptions())
	if err != nil {
		return nil, err
	}
	s := &projectStage{name: name, p: p}
	for k := range v.Doc().Elems() {
		s.touched = append(s.touched, k)
	}
	return []stage{s}, nil
}

func parseUnset(ps *parser, name string, v bson.Value) ([]stage, error) {
	p, err := project.ParseUnset(v)
	if err != nil {
		return nil, err
	}
	s := &projectStage{name: "$project", p: p}
	if v.Type == bson.TypeString {
		s.touched = []string{v.Str()}
	} else {
		for e := range v.Doc().Values() {
			s.touched = append(s.touched, e.Str())
		}
	}
	return []stage{s}, nil
}

// classify notes for each path of a $project whether it is kept or changed.
func (s *projectStage) classify(prefix string, d bson.Raw) {
	for k, v := range d.Elems() {
		path := prefix + k
		switch {
		case v.Type == bson.TypeDocument && !v.Doc().IsEmpty() && !isOperatorDoc(v.Doc()):
			s.classify(path+".", v.Doc())
		case (v.IsNumber() || v.Type == bson.TypeBool) && v.Truthy():
			s.kept = append(s.kept, path)
		default:
			s.touched = append(s.touched, path)
		}
	}
}

func isOperatorDoc(d bson.Raw) bool {
	k, _ := d.First()
	return len(k) > 0 && k[0] == '$'
}

// passes reports whether a filter or sort on path means the same before the stage.
func (s *projectStage) passes(path string) bool {
	for _, t := range s.touched {
		if related(t, path) {
			return false
		}
	}
	if s.p.Kind() != project.Inclusion {
		return true
	}
	for _, k := range s.kept {
		if k == path || len(path) > len(k) && path[:len(k)] == k && path[len(k)] == '.' {
			return true
		}
	}
	return false
}

// related reports whether one path is the other or lies below it.
func related(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return a == b || len(b) > len(a) && b[:len(a)] == a && b[len(a)] == '.'
}

func (s *projectStage) info() stageInfo { return stageInfo{name: s.name} }

func (s *projectStage) optimize() (stage, error) { return s, s.p.FoldError() }

func (s *projectStage) serialize(b *bson.Builder) {
	b.Doc("").AppendDoc(s.name, s.p.Serialize()).End()
}

func (s *projectStage) deps(d *expr.Deps) visibility {
	if s.p.Kind() != project.Inclusion {
		s.p.ComputedDeps(d)
		return seesInput
	}
	paths, ok := s.p.DependsOn()
	if !ok {
		d.Whole = true
	}
	for _, p := range paths {
		d.AddPath(p)
	}
	return sealed
}

func (s *projectStage) open(o *Options, src Iterator) (Iterator, error) {
	return &projectIter{src: src, p: s.p, x: &project.Extra{Env: o.env()}}, nil
}

type projectIter struct {
	src Iterator
	p   *project.Projection
	x   *project.Extra
	buf []byte
}

func (it *projectIter) Next(ctx context.Context) (bson.Raw, error) {
	doc, err := it.src.Next(ctx)
	if err != nil || doc == nil {
		return nil, err
	}
	it.buf, err = it.p.Append(it.buf[:0], doc, it.x)
	if err != nil {
		return nil, err
	}
	return bson.Raw(it.buf), nil
}

func (it *projectIter) Close() error { return it.src.Close() }
