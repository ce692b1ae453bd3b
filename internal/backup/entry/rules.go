package entry

import (
	"slices"
	"strings"
	"sync"
)

// Rules say which namespaces are kept and what they are called then. A namespace is kept
// if it matches a pattern of Include, or there is none, and none of Exclude; then the
// last pair of Rename that matches renames it. The collection behind a time-series
// collection follows that one's name; a view follows its own name, not that of
// system.views. Temporary collections (IsTemporary) of a database from which anything may
// be kept are kept too, as they may be renamed into place: if they are not, they are dropped.
//
// nil and the zero value keep everything as it is. Rules are not changed after their first
// use, and are safe for use by several goroutines then.
type Rules struct {
	Include, Exclude []Pattern
	Rename           []Rename
	// SplitTransactions allows that of a transaction which writes kept and other
	// namespaces only the kept part is replayed. Without, it is a *SplitTransactionError.
	SplitTransactions bool

	mu   sync.Mutex
	seen map[string]verdict
}

type verdict struct {
	to   string
	keep bool
}

// Trivial reports whether r keeps everything as it is.
func (r *Rules) Trivial() bool {
	return r == nil || len(r.Include)+len(r.Exclude)+len(r.Rename) == 0
}

// Namespace says whether ns (db.collection) is kept and what it is called then.
func (r *Rules) Namespace(ns string) (to string, keep bool) {
	if r.Trivial() {
		return ns, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.seen[ns]
	if !ok {
		v.to, v.keep = r.decide(ns)
		if r.seen == nil {
			r.seen = map[string]verdict{}
		}
		if len(r.seen) > 1<<16 { // many short-lived names: the memory stays bounded
			clear(r.seen)
		}
		r.seen[strings.Clone(ns)] = v
	}
	return v.to, v.keep
}

func (r *Rules) decide(ns string) (string, bool) {
	db, coll, _ := strings.Cut(ns, ".")
	name, buckets := strings.CutPrefix(coll, bucketsPrefix)
	logical := db + "." + name
	if coll == "system.views" {
		return r.follow(db, coll)
	}
	if !r.matches(logical) {
		if IsTemporary(coll) {
			return r.follow(db, coll)
		}
		return "", false
	}
	to, ok := r.rename(logical)
	if !ok && IsTemporary(coll) {
		return r.follow(db, coll)
	}
	if buckets {
		db, coll, _ := strings.Cut(to, ".")
		to = db + "." + bucketsPrefix + coll
	}
	return to, true
}

// follow decides on a collection that goes where the others of its database go: there
// if they all go to one database.
func (r *Rules) follow(db, coll string) (string, bool) {
	if !r.mayKeep(db) {
		return "", false
	}
	to := ""
	for i := range r.Rename {
		rn := &r.Rename[i]
		fdb, _, _ := strings.Cut(rn.From, ".")
		if fdb != db && !strings.ContainsAny(fdb, "*$") {
			continue
		}
		// What a collection of that database would be called says where it goes.
		probe, ok := rn.apply(db + "." + coll)
		if !ok && fdb == db {
			probe, ok = rn.To, !strings.ContainsAny(strings.SplitN(rn.To, ".", 2)[0], "*$")
		}
		if ok {
			to, _, _ = strings.Cut(probe, ".")
		}
	}
	if to == "" {
		to = db
	}
	return to + "." + coll, true
}

func (r *Rules) matches(ns string) bool {
	in := len(r.Include) == 0
	for _, p := range r.Include {
		in = in || p.Match(ns)
	}
	for _, p := range r.Exclude {
		in = in && !p.Match(ns)
	}
	return in
}

func (r *Rules) rename(ns string) (string, bool) {
	for i := len(r.Rename) - 1; i >= 0; i-- {
		if to, ok := r.Rename[i].apply(ns); ok {
			return to, true
		}
	}
	return ns, false
}

// mayKeep reports whether a namespace of a database may be kept.
func (r *Rules) mayKeep(db string) bool {
	for _, p := range r.Exclude {
		if p.src == db+".*" || p.src == "*" || p.src == "*.*" {
			return false
		}
	}
	if len(r.Include) == 0 {
		return true
	}
	for _, p := range r.Include {
		pdb, _, dot := strings.Cut(p.src, ".")
		if pdb == db || !dot || strings.ContainsAny(pdb, `*\`) {
			return true
		}
	}
	return false
}

// WholeDatabase reports whether everything of a database is kept under its own name, so
// that a dropDatabase may be taken at its word.
func (r *Rules) WholeDatabase(db string) bool {
	if r.Trivial() {
		return true
	}
	for _, p := range r.Exclude {
		pdb, _, dot := strings.Cut(p.src, ".")
		if pdb == db || !dot || strings.ContainsAny(pdb, `*\`) {
			return false
		}
	}
	for i := range r.Rename {
		for _, side := range []string{r.Rename[i].From, r.Rename[i].To} {
			sdb, _, dot := strings.Cut(side, ".")
			if sdb == db || !dot || strings.ContainsAny(sdb, `*$\`) {
				return false
			}
		}
	}
	whole := len(r.Include) == 0
	for _, p := range r.Include {
		whole = whole || p.src == db+".*" || p.src == "*" || p.src == "*.*"
	}
	return whole
}

// Sources are the namespaces that are kept under the name ns, without those of
// temporary collections. ok is false if a rename does not tell from its result what it
// was made of.
func (r *Rules) Sources(ns string) (from []string, ok bool) {
	if r.Trivial() {
		return []string{ns}, true
	}
	ok = true
	db, coll, _ := strings.Cut(ns, ".")
	name, buckets := strings.CutPrefix(coll, bucketsPrefix)
	prefix := ""
	if buckets {
		prefix = bucketsPrefix
	}
	add := func(logical string) {
		sdb, scoll, _ := strings.Cut(logical, ".")
		src := sdb + "." + prefix + scoll
		if to, keep := r.Namespace(src); keep && to == ns {
			from = append(from, src)
		}
	}
	add(db + "." + name)
	for i := range r.Rename {
		if r.Rename[i].back == nil {
			ok = false
		} else if src, match := r.Rename[i].source(db + "." + name); match && src != db+"."+name {
			add(src)
		}
	}
	return from, ok
}

// Unmatched are the patterns of Include and the pairs of Rename, as From=To, that match none of the
// namespaces. Names of buckets are to be those of their time-series collections.
func (r *Rules) Unmatched(namespaces []string) (include, rename []string) {
	for _, p := range r.Include {
		if !slices.ContainsFunc(namespaces, p.Match) {
			include = append(include, p.src)
		}
	}
	for i := range r.Rename {
		n := &r.Rename[i]
		if !slices.ContainsFunc(namespaces, func(ns string) bool { _, ok := n.apply(ns); return ok }) {
			rename = append(rename, n.From+"="+n.To)
		}
	}
	return include, rename
}
