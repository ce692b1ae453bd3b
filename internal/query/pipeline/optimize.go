package pipeline

import (
	"math"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
)

func (p *Pipeline) optimize() error { return optimizeError(p.rewrite()) }

// rewrite folds constants and applies the rules until none changes anything.
func (p *Pipeline) rewrite() error {
	for i, s := range p.stages {
		o, err := s.optimize()
		if err != nil {
			return err
		}
		p.stages[i] = o
	}
	for changed := true; changed; {
		changed = false
		for i := 0; i < len(p.stages); i++ {
			if p.rule(i) {
				changed = true
			}
		}
	}
	return nil
}

func (p *Pipeline) replace(i, n int, with ...stage) bool {
	tail := append([]stage(nil), p.stages[i+n:]...)
	p.stages = append(append(p.stages[:i:i], with...), tail...)
	return true
}

// rule tries the rewrites of stage i and its successor and reports a change.
func (p *Pipeline) rule(i int) bool {
	if m, ok := p.stages[i].(*matchStage); ok {
		if _, all := m.root.(*match.AlwaysTrue); all || m.filter.IsEmpty() {
			return p.replace(i, 1)
		}
	}
	if i+1 >= len(p.stages) {
		return false
	}
	switch b := p.stages[i+1].(type) {
	case *unwindStage:
		if l, ok := p.stages[i].(*lookupStage); ok && l.takes(b) {
			c := *l
			c.unwind = b
			return p.replace(i, 2, &c)
		}
	case *matchStage:
		return p.moveMatch(i, b)
	case *limitStage:
		switch a := p.stages[i].(type) {
		case *limitStage:
			return p.replace(i, 2, &limitStage{min(a.n, b.n)})
		case *sortStage:
			c := *a
			if c.limit == 0 || b.n < c.limit {
				c.limit = b.n
			}
			return p.replace(i, 2, &c)
		case *skipStage:
			if a.n <= math.MaxInt64-b.n {
				return p.replace(i, 2, &limitStage{a.n + b.n}, a)
			}
		case *projectStage, *replaceRootStage: // one document out for one in
			return p.replace(i, 2, b, a)
		}
	case *skipStage:
		switch a := p.stages[i].(type) {
		case *skipStage:
			if a.n <= math.MaxInt64-b.n {
				return p.replace(i, 2, &skipStage{a.n + b.n})
			}
		case *projectStage, *replaceRootStage:
			return p.replace(i, 2, b, a)
		}
	}
	return false
}

// passer is a stage before which filters on some paths may move.
type passer interface{ passes(path string) bool }

func (s *sortStage) passes(string) bool { return s.limit == 0 }

// moveMatch joins the filter at i+1 with its predecessor or moves it before it, as far
// as its conjuncts allow.
func (p *Pipeline) moveMatch(i int, m *matchStage) bool {
	if prev, ok := p.stages[i].(*matchStage); ok {
		j, err := newMatch(p.o, joinFilters(prev.filter, m.filter))
		return err == nil && p.replace(i, 2, j)
	}
	s, ok := p.stages[i].(passer)
	if !ok {
		return false
	}
	var before, after []bson.Raw
	for _, c := range conjuncts(m.filter, nil) {
		if p.mayPass(c, s) {
			before = append(before, c)
		} else {
			after = append(after, c)
		}
	}
	if len(before) == 0 {
		return false
	}
	front, err := newMatch(p.o, joinFilters(before...))
	if err != nil {
		return false
	}
	if len(after) == 0 {
		return p.replace(i, 2, front, p.stages[i])
	}
	back, err := newMatch(p.o, joinFilters(after...))
	if err != nil {
		return false
	}
	return p.replace(i, 2, front, p.stages[i], back)
}

func (p *Pipeline) mayPass(filter bson.Raw, s passer) bool {
	m, err := newMatch(p.o, filter)
	if err != nil {
		return false
	}
	d := &expr.Deps{}
	m.deps(d)
	if d.Whole || d.Impure || len(d.Meta) > 0 || len(d.Paths) == 0 {
		return false
	}
	for path := range d.Paths {
		if !s.passes(path) {
			return false
		}
	}
	return true
}

// conjuncts splits a filter into filters of which all must hold.
func conjuncts(f bson.Raw, out []bson.Raw) []bson.Raw {
	for k, v := range f.Elems() {
		if k == "$and" && v.Type == bson.TypeArray {
			for e := range v.Doc().Values() {
				out = conjuncts(e.Doc(), out)
			}
			continue
		}
		out = append(out, bson.D(k, v))
	}
	return out
}

// joinFilters makes one filter of several.
func joinFilters(fs ...bson.Raw) bson.Raw {
	var all []bson.Raw
	for _, f := range fs {
		all = conjuncts(f, all)
	}
	switch len(all) {
	case 0:
		return bson.Empty
	case 1:
		return all[0]
	}
	return bson.D("$and", all)
}

// deps adds what the pipeline reads of its input and reports how much of it gets
// through.
func (p *Pipeline) deps(d *expr.Deps) visibility {
	vis := seesInput
	for _, s := range p.stages {
		if vis == sealed {
			// Only variables matter now.
			rest := &expr.Deps{}
			s.deps(rest)
			for id := range rest.Vars {
				d.AddVar(id)
			}
			d.Impure = d.Impure || rest.Impure
			continue
		}
		vis = s.deps(d)
	}
	return vis
}

func (p *Pipeline) splitFind() (Find, *Pipeline) {
	var f Find
	n := 0
	var filters []bson.Raw
	for ; n < len(p.stages); n++ {
		m, ok := p.stages[n].(*matchStage)
		if !ok {
			break
		}
		filters = append(filters, m.filter)
	}
	switch len(filters) {
	case 0:
	case 1:
		f.Filter = filters[0]
	default:
		f.Filter = joinFilters(filters...)
	}
	if n < len(p.stages) {
		if s, ok := p.stages[n].(*sortStage); ok {
			f.Sort, f.Limit = s.spec, s.limit
			n++
		}
	}
	if n < len(p.stages) && f.Limit == 0 {
		if s, ok := p.stages[n].(*limitStage); ok {
			f.Limit = s.n
			n++
		}
	}
	if n < len(p.stages) {
		if s, ok := p.stages[n].(*skipStage); ok && (f.Limit == 0 || f.Limit > s.n) {
			f.Skip = s.n
			if f.Limit > 0 {
				f.Limit -= s.n
			}
			n++
		}
	}
	rest := &Pipeline{p.stages[n:], p.o, p.depth}
	f.Projection = rest.neededFields()
	return f, rest
}

// neededFields returns the inclusion of what the pipeline reads, nil if it needs whole
// documents.
func (p *Pipeline) neededFields() bson.Raw {
	d := &expr.Deps{}
	if p.deps(d) != sealed || d.Whole || len(d.Meta) > 0 || len(d.Paths) == 0 {
		return nil
	}
	b := bson.NewBuilder(nil)
	id := false
	for _, path := range d.SortedPaths() {
		if strings.Contains(path, "$") || strings.HasPrefix(path, "_id.") {
			return nil
		}
		id = id || path == "_id"
		b.Int32(path, 1)
	}
	if !id {
		b.Int32("_id", 0)
	}
	return b.Finish()
}
