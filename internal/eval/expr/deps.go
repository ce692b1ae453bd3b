package expr

import (
	"sort"
	"strings"
)

// Deps gathers what an expression reads.
type Deps struct {
	// Paths are the dotted paths of the root document that are read.
	Paths map[string]struct{}
	// Whole is set if the whole root document is read.
	Whole bool
	// Vars are the variables (of ParseContext.With) that are read.
	Vars map[VarID]struct{}
	// Meta are the names of metadata that are read.
	Meta map[string]struct{}
	// System is set if a system variable other than the document is read ($$NOW …).
	System bool
	// Impure is set if two evaluations may differ ($rand).
	Impure bool
}

// AddPath notes that path is read.
func (d *Deps) AddPath(path string) {
	if d.Paths == nil {
		d.Paths = map[string]struct{}{}
	}
	d.Paths[path] = struct{}{}
}

// AddVar notes that a variable is read.
func (d *Deps) AddVar(id VarID) {
	if d.Vars == nil {
		d.Vars = map[VarID]struct{}{}
	}
	d.Vars[id] = struct{}{}
}

// AddMeta notes that a piece of metadata is read.
func (d *Deps) AddMeta(name string) {
	if d.Meta == nil {
		d.Meta = map[string]struct{}{}
	}
	d.Meta[name] = struct{}{}
}

// SortedPaths returns the paths in order, without those that lie below another one.
func (d *Deps) SortedPaths() []string {
	ps := make([]string, 0, len(d.Paths))
	for p := range d.Paths {
		ps = append(ps, p)
	}
	// '.' sorts as the lowest byte so that what lies below a path follows it.
	sort.Slice(ps, func(i, j int) bool {
		return strings.ReplaceAll(ps[i], ".", "\x00") < strings.ReplaceAll(ps[j], ".", "\x00")
	})
	out := ps[:0]
	for _, p := range ps {
		if n := len(out); n > 0 && strings.HasPrefix(p, out[n-1]+".") {
			continue
		}
		out = append(out, p)
	}
	return out
}

// DepsOf returns what e reads.
func DepsOf(e Expr) *Deps {
	d := &Deps{}
	e.AddDeps(d)
	return d
}
