package expr

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// fieldPath is a parsed dotted path; the empty path stands for the value itself.
type fieldPath struct {
	full  string
	parts []string
}

func newFieldPath(path string) fieldPath {
	if path == "" {
		return fieldPath{}
	}
	return fieldPath{path, strings.Split(path, ".")}
}

// get reads the path below v.
func (p fieldPath) get(env *Env, v bson.Value) bson.Value {
	if len(p.parts) == 0 {
		return v
	}
	switch v.Type {
	case bson.TypeDocument:
		return pathInDoc(env, v.Doc(), p.parts)
	case bson.TypeArray:
		return pathInArray(env, v.Doc(), p.parts)
	}
	return missing
}

func pathInDoc(env *Env, d bson.Raw, parts []string) bson.Value {
	for {
		v := d.Get(parts[0])
		parts = parts[1:]
		if len(parts) == 0 {
			return v
		}
		switch v.Type {
		case bson.TypeDocument:
			d = v.Doc()
		case bson.TypeArray:
			return pathInArray(env, v.Doc(), parts)
		default:
			return missing
		}
	}
}

// pathInArray reads the path in every document of an array; other elements, nested
// arrays too, are passed over.
func pathInArray(env *Env, a bson.Raw, parts []string) bson.Value {
	base := len(env.stack)
	it := a.Iter()
	for it.Next() {
		e := it.Value()
		if e.Type != bson.TypeDocument {
			continue
		}
		if v := pathInDoc(env, e.Doc(), parts); !v.IsMissing() {
			env.stack = append(env.stack, v)
		}
	}
	v := env.Array(env.stack[base:])
	env.stack = env.stack[:base]
	return v
}

// GetPath reads a dotted path in the current document as "$path" does.
func (env *Env) GetPath(parts []string) bson.Value { return pathInDoc(env, env.Root, parts) }

// rootPath is "$a.b" and "$$ROOT.a.b".
type rootPath struct{ path fieldPath }

func (r *rootPath) Eval(env *Env) (bson.Value, error) {
	return pathInDoc(env, env.Root, r.path.parts), nil
}
func (r *rootPath) AddDeps(d *Deps)                    { d.AddPath(r.path.full) }
func (r *rootPath) Append(b *bson.Builder, key string) { b.Str(key, "$"+r.path.full) }
func (r *rootPath) Optimize() (Expr, error)            { return r, nil }

// PathOf returns the dotted path if e is a plain field path of the root document.
func PathOf(e Expr) (string, bool) {
	r, ok := e.(*rootPath)
	if !ok {
		return "", false
	}
	return r.path.full, true
}

// IsRoot reports whether e is $$ROOT (or $$CURRENT, where it is the same).
func IsRoot(e Expr) bool {
	s, ok := e.(*systemVar)
	return ok && len(s.path.parts) == 0 && (s.def.name == "ROOT" || s.def.name == "CURRENT")
}

// userVar is "$$name.path" of a variable bound by $let, $map, $lookup and such.
type userVar struct {
	id   VarID
	name string
	path fieldPath
}

func (u *userVar) Eval(env *Env) (bson.Value, error) { return u.path.get(env, env.Var(u.id)), nil }
func (u *userVar) AddDeps(d *Deps)                   { d.AddVar(u.id) }
func (u *userVar) Optimize() (Expr, error)           { return u, nil }

func (u *userVar) Append(b *bson.Builder, key string) { b.Str(key, varString(u.name, u.path)) }

func varString(name string, p fieldPath) string {
	if p.full == "" {
		return "$$" + name
	}
	return "$$" + name + "." + p.full
}

// systemVar is a variable that MongoDB itself binds.
type systemVar struct {
	def  *systemVarDef
	path fieldPath
}

type systemVarDef struct {
	name  string
	value func(env *Env) bson.Value
}

var systemVars = []systemVarDef{
	{"CLUSTER_TIME", func(env *Env) bson.Value { return env.Timestamp(env.ClusterTime) }},
	{"CURRENT", func(env *Env) bson.Value { return env.Root.Value() }},
	{"NOW", func(env *Env) bson.Value { return env.Date(env.Now) }},
	{"REMOVE", func(env *Env) bson.Value { return missing }},
	{"ROOT", func(env *Env) bson.Value { return env.Root.Value() }},
	{"SEARCH_META", func(env *Env) bson.Value { return env.SearchMeta }},
	{"USER_ROLES", func(env *Env) bson.Value { return env.UserRoles }},
}

func (s *systemVar) Eval(env *Env) (bson.Value, error) {
	if s.def.name == "CLUSTER_TIME" && env.ClusterTime == 0 {
		return missing, mongoerr.New(51144, "Builtin variable '$$CLUSTER_TIME' is not available")
	}
	return s.path.get(env, s.def.value(env)), nil
}

func (s *systemVar) AddDeps(d *Deps) {
	if s.def.name == "ROOT" || s.def.name == "CURRENT" {
		d.Whole = true
	} else {
		d.System = true
	}
}

func (s *systemVar) Append(b *bson.Builder, key string) { b.Str(key, varString(s.def.name, s.path)) }

func (s *systemVar) Optimize() (Expr, error) {
	if s.def.name == "REMOVE" {
		return constant{}, nil
	}
	return s, nil
}
