package pitr

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
)

// SelectionError is that --ns, --exclude-ns and --rename do not say what can be restored: one is
// written wrong, names what the backup does not have, or two collections would become one.
type SelectionError struct{ Why string }

// Error implements error.
func (e *SelectionError) Error() string { return e.Why }

func badSelection(format string, args ...any) error {
	return &SelectionError{fmt.Sprintf(format, args...)}
}

// checkSelection refuses, before anything is touched, names that nothing has (a name that is spelt
// wrong would restore nothing, or, in --rename, restore over what it was to spare), two namespaces
// that would get one name, and names that no server takes.
func (p *RestorePlan) checkSelection() error {
	if p.rules.Trivial() {
		return nil
	}
	names, all := p.sources()
	if all {
		include, rename := p.rules.Unmatched(names)
		if len(include) > 0 {
			s, hint := include[0], ""
			if !strings.ContainsAny(s, ".*") {
				hint = fmt.Sprintf("; a whole database is %q", s+".*")
			}
			return badSelection("--ns %s: the backup has nothing of that name up to %s%s", s, chain.Describe(p.To), hint)
		}
		if len(rename) > 0 {
			return badSelection("--rename %s: the backup has nothing to rename so up to %s", rename[0], chain.Describe(p.To))
		}
	}
	from := map[string]string{}
	for _, ns := range names {
		to, keep := p.rules.Namespace(ns)
		if _, coll, _ := strings.Cut(ns, "."); !keep || strings.HasPrefix(coll, "system.") && coll != "system.js" {
			continue // users and roles go another way
		}
		if other, taken := from[to]; taken {
			return badSelection("%s and %s would both be restored as %s: rename or exclude one of them", other, ns, to)
		}
		from[to] = ns
		if to != ns {
			if why := badNamespace(to); why != "" {
				return badSelection("--rename: %s cannot be restored as %s: %s", ns, to, why)
			}
		}
	}
	return nil
}

// sources are the names of what the backup has up to the moment, in order: collections, views, and what
// only the oplog knows. all is false if the oplog writes to more than its manifests name.
func (p *RestorePlan) sources() (names []string, all bool) {
	set := map[string]bool{}
	add := func(ns string) {
		ns = strings.Replace(ns, ".system.buckets.", ".", 1)
		if db, coll, _ := strings.Cut(ns, "."); coll != "" && coll != "system.views" && db != "config" && db != "local" && db != scratchDB {
			set[ns] = true
		}
	}
	for _, ns := range p.named {
		add(ns)
	}
	all = true
	for _, b := range append([]chain.Backup{p.Chain.Full}, p.Chain.Pieces...) {
		w, err := writtenIn(p.state.Manifests[b.ID])
		all = all && err == nil && !w.More
		for ns := range w.Namespaces {
			add(ns)
		}
	}
	return slices.Sorted(maps.Keys(set)), all
}

// Limits of MongoDB's on names, in bytes.
const (
	maxNamespace = 255
	maxDatabase  = 63
)

// badNamespace says why no server takes a namespace, "" if one does.
func badNamespace(ns string) string {
	db, coll, _ := strings.Cut(ns, ".")
	switch {
	case db == "" || len(db) > maxDatabase || strings.ContainsAny(db, "/\\ \"$\x00"):
		return fmt.Sprintf("%q is no name of a database", db)
	case coll == "" || coll[0] == '.' || strings.ContainsAny(coll, "$\x00"):
		return fmt.Sprintf("%q is no name of a collection", coll)
	case strings.HasPrefix(coll, "system.") && coll != "system.js":
		return "names that begin with system. are the server's own"
	case len(ns) > maxNamespace:
		return fmt.Sprintf("it has %d bytes, of the %d that a name may have", len(ns), maxNamespace)
	}
	return ""
}
