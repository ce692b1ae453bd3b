package snapshot

import (
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// Rewinder takes a catalog back in time over the entries that were written while it was
// listed: each collection gets the name that it had before them.
//
// An entry may have taken effect before or after its database was listed. The UUID tells which:
// a collection that is listed under its new name is given its old one, one that was created is
// taken out, as the replay creates it, one that was dropped and is not listed is put in
// as Gone, as the replay drops it. Indexes and options need nothing: making one that is there
// and dropping one that is not are harmless.
type Rewinder struct {
	changes []entry.Entry
	// Unknown is the first entry whose effect cannot be taken back for want of a UUID; the
	// catalog must then be listed again.
	Unknown *entry.Entry
}

// Add takes the next entry. Only those that change the names of collections are kept, copied.
func (w *Rewinder) Add(e entry.Entry) error {
	switch e.Kind {
	case entry.Create, entry.Drop, entry.RenameCollection, entry.ConvertToCapped, entry.ImportCollection:
		return w.keep(e)
	case entry.ApplyOps, entry.TxnWhole, entry.TxnPartial, entry.TxnPrepare:
		// A transaction may create collections; those of partial entries take effect later,
		// and taking out what was not there yet changes nothing.
		ops, err := e.Ops()
		if err != nil {
			return err
		}
		for _, op := range ops {
			if err := w.Add(op); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Rewinder) keep(e entry.Entry) error {
	copyOf := e
	copyOf.Raw, copyOf.O, copyOf.O2 = nil, e.O.Clone(), e.O2.Clone()
	copyOf.DB, copyOf.Coll, copyOf.NS = strings.Clone(e.DB), strings.Clone(e.Coll), strings.Clone(e.NS)
	w.changes = append(w.changes, copyOf)
	if (!e.HasUUID() || e.Kind == entry.ConvertToCapped) && w.Unknown == nil {
		w.Unknown = &w.changes[len(w.changes)-1]
	}
	return nil
}

// Changed reports whether any entry changed the names of collections.
func (w *Rewinder) Changed() bool { return len(w.changes) > 0 }

// Rewind returns the catalog as it was before the entries.
func (w *Rewinder) Rewind(catalog []Collection) []Collection {
	colls := slices.Clone(catalog)
	find := func(u bson.UUID) int {
		return slices.IndexFunc(colls, func(c Collection) bool { return c.UUID == u && u != bson.UUID{} })
	}
	gone := func(u bson.UUID, db, name string) {
		if copied(db, name) {
			colls = append(colls, Collection{DB: db, Name: name, UUID: u, Type: "collection", Options: bson.Empty, Gone: true})
		}
	}
	for i := len(w.changes) - 1; i >= 0; i-- {
		e := &w.changes[i]
		at := find(e.UUID)
		switch e.Kind {
		case entry.Create:
			if at >= 0 {
				colls = slices.Delete(colls, at, at+1)
			}
		case entry.Drop:
			if at < 0 {
				gone(e.UUID, e.DB, e.Coll)
			} else {
				colls[at].DB, colls[at].Name = e.DB, e.Coll
			}
		case entry.RenameCollection:
			if at < 0 {
				gone(e.UUID, e.DB, e.Coll)
			} else {
				colls[at].DB, colls[at].Name = e.DB, e.Coll
			}
			if victim, ok := e.O.Get("dropTarget").UUID(); ok && find(victim) < 0 {
				db, coll, _ := strings.Cut(e.RenameTarget(), ".")
				gone(victim, db, coll)
			}
		}
	}
	slices.SortFunc(colls, func(a, b Collection) int { return strings.Compare(a.Namespace(), b.Namespace()) })
	return colls
}
