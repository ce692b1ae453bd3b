package auth

import (
	"bytes"
	"slices"
	"sort"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// privilege is a resource, as canonical document, and actions on it, sorted.
type privilege struct {
	resource bson.Raw
	actions  []string
}

// The resources: collections of a database, the cluster, anything.
func onColl(db, coll string) bson.Raw { return bson.D("db", db, "collection", coll) }

var (
	onCluster     = bson.D("cluster", true)
	onAnyResource = bson.D("anyResource", true)
)

func (p privilege) doc() bson.Raw {
	return bson.D("resource", p.resource, "actions", p.actions)
}

func privilegeArray(list []privilege) bson.Array {
	b := bson.NewArrayBuilder(nil)
	for _, p := range list {
		b.AppendDoc("", p.doc())
	}
	return bson.Array(b.Finish())
}

// merge adds more to list: one privilege for each resource.
func merge(list, more []privilege) []privilege {
	out := slices.Clone(list)
	for _, p := range more {
		i := slices.IndexFunc(out, func(q privilege) bool { return bytes.Equal(q.resource, p.resource) })
		if i < 0 {
			out = append(out, p)
			continue
		}
		actions := append(slices.Clone(out[i].actions), p.actions...)
		sort.Strings(actions)
		out[i].actions = slices.Compact(actions)
	}
	return out
}

// subtract takes actions away; a resource without any is gone.
func subtract(list, gone []privilege) []privilege {
	var out []privilege
	for _, p := range list {
		for _, g := range gone {
			if bytes.Equal(g.resource, p.resource) {
				p.actions = slices.DeleteFunc(slices.Clone(p.actions), func(a string) bool { return slices.Contains(g.actions, a) })
			}
		}
		if len(p.actions) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// parsePrivileges reads a command's privileges argument, which is checked.
func parsePrivileges(where string, v bson.Value) (list []privilege, err error) {
	var unknown []string
	for e := range v.Doc().Values() {
		if e.Type != bson.TypeDocument {
			return nil, wrongType(where, e, "object")
		}
		d := e.Doc()
		for k := range d.Elems() {
			if k != "resource" && k != "actions" {
				return nil, mongoerr.New(mongoerr.UnknownField, "BSON field 'ParsedPrivilege.%s' is an unknown field.", k)
			}
		}
		res, actions := d.Get("resource"), d.Get("actions")
		switch {
		case res.IsMissing():
			return nil, mongoerr.New(40414, "BSON field 'ParsedPrivilege.resource' is missing but a required field")
		case actions.IsMissing():
			return nil, mongoerr.New(40414, "BSON field 'ParsedPrivilege.actions' is missing but a required field")
		case res.Type != bson.TypeDocument:
			return nil, wrongType("ParsedPrivilege.resource", res, "object")
		case actions.Type != bson.TypeArray:
			return nil, wrongType("ParsedPrivilege.actions", actions, "array")
		}
		p := privilege{}
		if p.resource, err = parseResource(res.Doc()); err != nil {
			return nil, err
		}
		for a := range actions.Doc().Values() {
			if a.Type != bson.TypeString {
				return nil, wrongType("ParsedPrivilege.actions", a, "string")
			}
			if !knownActions[a.Str()] {
				unknown = append(unknown, a.Str())
				continue
			}
			p.actions = append(p.actions, strings.Clone(a.Str()))
		}
		sort.Strings(p.actions)
		p.actions = slices.Compact(p.actions)
		list = merge(list, []privilege{p})
	}
	if len(unknown) > 0 {
		return nil, mongoerr.New(mongoerr.FailedToParse, "Unrecognized action privilege strings: %s", strings.Join(unknown, ","))
	}
	return list, nil
}

// parseResource checks a resource and returns it with its fields in canonical order.
func parseResource(d bson.Raw) (bson.Raw, error) {
	for k, v := range d.Elems() {
		want := bson.TypeString
		switch k {
		case "cluster", "anyResource":
			want = bson.TypeBool
		case "db", "collection", "system_buckets":
		default:
			return nil, mongoerr.New(mongoerr.UnknownField, "BSON field 'ParsedResource.%s' is an unknown field.", k)
		}
		if v.Type != want {
			return nil, wrongType("ParsedResource."+k, v, want.String())
		}
	}
	cluster, any, buckets := d.Get("cluster").Bool(), d.Get("anyResource").Bool(), d.Get("system_buckets")
	db, coll := d.Get("db"), d.Get("collection")
	named := !db.IsMissing() || !coll.IsMissing()
	switch {
	case cluster && !any && !named && buckets.IsMissing():
		return onCluster, nil
	case any && !cluster && !named && buckets.IsMissing():
		return onAnyResource, nil
	case cluster || any:
		return nil, mongoerr.New(mongoerr.BadValue, "resource %s names more than one kind of resource: use cluster, anyResource, or db and collection", d)
	case !buckets.IsMissing() && coll.IsMissing():
		b := bson.NewBuilder(nil)
		if !db.IsMissing() {
			b.Append("db", db)
		}
		return b.Append("system_buckets", buckets).Finish(), nil
	case db.IsMissing() || coll.IsMissing() || !buckets.IsMissing():
		return nil, mongoerr.New(mongoerr.BadValue, "resource must have both db and collection fields, or be the cluster or anyResource: %s", d)
	}
	return bson.D("db", db, "collection", coll), nil
}

// checkTargets refuses privileges that a role of db may not have: only roles of admin
// reach over their own database.
func checkTargets(db string, list []privilege) error {
	for _, p := range list {
		if of := p.resource.Get("db"); db != adminDB && (of.IsMissing() || of.Str() != db) {
			return mongoerr.New(mongoerr.InvalidRoleModification, "Roles on the '%s' database cannot be granted privileges that target other databases or the cluster", db)
		}
	}
	return nil
}

// storedPrivileges reads the privileges of a role's document. Actions that this version
// does not know stay; what is no privilege is passed over.
func storedPrivileges(doc bson.Raw) (list []privilege) {
	for e := range doc.Get("privileges").Doc().Values() {
		p := privilege{}
		res := e.Doc().Get("resource").Doc()
		if res == nil {
			continue
		}
		var err error
		if p.resource, err = parseResource(res); err != nil {
			p.resource = res.Clone()
		}
		for a := range e.Doc().Get("actions").Doc().Values() {
			p.actions = append(p.actions, strings.Clone(a.Str()))
		}
		sort.Strings(p.actions)
		list = append(list, p)
	}
	return list
}
