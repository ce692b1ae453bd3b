package entry

import (
	"fmt"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// Map filters and renames one entry. keep is false if nothing of it is kept. Entries of
// transactions are always kept, with the operations that are: their chain must hold; a
// transaction in several entries is judged as a whole by MapUnit only.
//
// A rename out of what is kept becomes a drop, one into it is a *BorderError, unless the
// source is a temporary collection. A dropDatabase of which only some collections are kept
// comes back with Partial set.
func (r *Rules) Map(e Entry) (out Entry, keep bool, err error) {
	if r.Trivial() {
		return e, true, nil
	}
	switch {
	case e.Kind == Noop || e.Kind == Database || e.Kind == TxnCommit || e.Kind == TxnAbort:
		return e, true, nil
	case e.Kind.HasOps():
		return r.mapOps(e)
	case e.Coll == "system.views" && e.Kind.IsCRUD():
		return r.mapView(e)
	case e.Kind == DropDatabase:
		if !r.mayKeep(e.DB) {
			return e, false, nil
		}
		e.Partial = !r.WholeDatabase(e.DB)
		return e, true, nil
	case e.Kind == RenameCollection:
		return r.mapRename(e)
	}
	if e.Kind == Drop && e.Coll == "system.views" && r.mayKeep(e.DB) && !r.WholeDatabase(e.DB) {
		e.Partial = true
		return e, true, nil
	}
	to, keep := r.Namespace(e.Namespace())
	if !keep || to == e.Namespace() {
		return e, keep, nil
	}
	if e.Kind.IsCRUD() {
		return e.with(to, e.O, e.O2)
	}
	return r.mapCommand(e, to)
}

// MapUnit is Map for what takes effect at once; here a transaction is seen whole.
func (r *Rules) MapUnit(u Unit) (out Unit, keep bool, err error) {
	if r.Trivial() {
		return u, true, nil
	}
	if !u.Txn {
		e, keep, err := r.Map(u.Entries[0])
		u.Entries = []Entry{e}
		return u, keep, err
	}
	ops, err := r.keepOps(u.Entries, true)
	u.Entries = ops
	return u, len(ops) > 0, err
}

// keepOps maps operations. With whole, all or none of them must be kept.
func (r *Rules) keepOps(ops []Entry, whole bool) ([]Entry, error) {
	var kept []Entry
	in, out := "", ""
	for i := range ops {
		op, keep, err := r.Map(ops[i])
		if err != nil {
			return nil, err
		}
		if !keep {
			out = ops[i].Namespace()
			continue
		}
		in = ops[i].Namespace()
		kept = append(kept, op)
	}
	if whole && in != "" && out != "" && !r.SplitTransactions {
		return nil, &SplitTransactionError{ops[0].OpTime, in, out}
	}
	return kept, nil
}

func (r *Rules) mapOps(e Entry) (Entry, bool, error) {
	ops, err := e.Ops()
	if err != nil {
		return e, false, err
	}
	kept, err := r.keepOps(ops, e.Kind.IsTxn())
	if err != nil {
		return e, false, err
	}
	if len(kept) == 0 && !e.Kind.IsTxn() {
		return e, false, nil
	}
	b := bson.NewBuilder(nil)
	b.Array("applyOps")
	for i := range kept {
		b.AppendDoc("", kept[i].Raw)
	}
	b.End()
	for k, v := range e.O.Elems() {
		if k != "applyOps" && k != "count" { // count is of all operations of a chain
			b.Append(k, v)
		}
	}
	return e.with(e.NS, b.Finish(), e.O2)
}

// mapView filters a write to system.views by the name of the view, and renames the view
// and what it reads.
func (r *Rules) mapView(e Entry) (Entry, bool, error) {
	id := e.StringID()
	to, keep := r.Namespace(id)
	if !keep {
		return e, false, nil
	}
	db, _, _ := strings.Cut(to, ".")
	ns := db + ".system.views"
	o, o2 := e.O, e.O2
	if to != id {
		o, o2 = withField(o, "_id", to), withField(o2, "_id", to)
	}
	o, err := r.mapViewOn(e, to, o)
	if err != nil {
		return e, false, err
	}
	if ns == e.NS && to == id && len(o) == len(e.O) {
		return e, true, nil
	}
	return e.with(ns, o, o2)
}

// mapViewOn renames what the view to reads.
func (r *Rules) mapViewOn(e Entry, to string, o bson.Raw) (bson.Raw, error) {
	on := o.Get("viewOn")
	if on.Type != bson.TypeString {
		return o, nil
	}
	src := e.DB + "." + on.Str()
	dst, keep := r.Namespace(src)
	if !keep {
		dst = src
	}
	db, _, _ := strings.Cut(to, ".")
	ddb, coll, _ := strings.Cut(dst, ".")
	if ddb != db {
		if keep {
			return nil, &ViewError{e.OpTime, to, dst}
		}
		coll = on.Str()
	}
	return withField(o, "viewOn", coll), nil
}

func (r *Rules) mapRename(e Entry) (Entry, bool, error) {
	from, target := e.Namespace(), e.RenameTarget()
	newFrom, keepFrom := r.Namespace(from)
	newTo, keepTo := r.Namespace(target)
	switch {
	case !keepFrom && !keepTo:
		return e, false, nil
	case !keepFrom:
		return e, false, &BorderError{e.OpTime, from, target, "from outside into what is kept, where its documents are not known: keep " + from + " too"}
	case !keepTo:
		// It leaves what is kept: what was its name there is gone.
		db, coll, _ := strings.Cut(newFrom, ".")
		return e.withCommand(db, bson.D("drop", coll), nil)
	}
	fdb, _, _ := strings.Cut(newFrom, ".")
	tdb, _, _ := strings.Cut(newTo, ".")
	odb, _ := cutNS(target)
	if fdb != tdb && e.DB == odb[0] {
		return e, false, &BorderError{e.OpTime, from, target, "which the renames put into two databases, " + newFrom + " and " + newTo + ": rename both into one"}
	}
	if newFrom == from && newTo == target {
		return e, true, nil
	}
	o := withField(withField(e.O, "renameCollection", newFrom), "to", newTo)
	return e.withCommand(fdb, o, e.O2)
}

// mapCommand renames the collection of a command to to.
func (r *Rules) mapCommand(e Entry, to string) (Entry, bool, error) {
	db, coll, _ := strings.Cut(to, ".")
	name, _ := e.O.First()
	o := withField(e.O, name, coll)
	if e.Kind == Create || e.Kind == CollMod {
		var err error
		if o, err = r.mapViewOn(e, to, o); err != nil {
			return e, false, err
		}
	}
	return e.withCommand(db, renameInSpecs(o, to), renameInSpecs(e.O2, to))
}

// renameInSpecs changes the ns that older servers put into index specifications.
func renameInSpecs(o bson.Raw, ns string) bson.Raw {
	if o == nil {
		return nil
	}
	b := bson.NewBuilder(nil)
	for k, v := range o.Elems() {
		switch {
		case k == "ns" && v.Type == bson.TypeString:
			b.Str(k, ns)
		case k == "idIndex" && v.Type == bson.TypeDocument && v.Doc().Has("ns"):
			b.AppendDoc(k, withField(v.Doc(), "ns", ns))
		case k == "indexes" && v.Type == bson.TypeArray:
			b.Array(k)
			for s := range v.Doc().Values() {
				if s.Type == bson.TypeDocument && s.Doc().Has("ns") {
					s = withField(s.Doc(), "ns", ns).Value()
				}
				b.Append("", s)
			}
			b.End()
		default:
			b.Append(k, v)
		}
	}
	return b.Finish()
}

// withField is d with another text in one of its fields, if it has it.
func withField(d bson.Raw, key, text string) bson.Raw {
	if v := d.Get(key); v.Type != bson.TypeString || v.Str() == text {
		return d
	}
	b := bson.NewBuilder(nil)
	for k, v := range d.Elems() {
		if k == key {
			b.Str(k, text)
		} else {
			b.Append(k, v)
		}
	}
	return b.Finish()
}

// with is e with another namespace and documents.
func (e Entry) with(ns string, o, o2 bson.Raw) (Entry, bool, error) {
	b := bson.NewBuilder(make([]byte, 0, len(e.Raw)+len(ns)+len(o)-len(e.O)+16))
	for k, v := range e.Raw.Elems() {
		switch k {
		case "ns":
			b.Str(k, ns)
		case "o":
			b.AppendDoc(k, o)
		case "o2":
			if o2 != nil {
				b.AppendDoc(k, o2)
			}
		default:
			b.Append(k, v)
		}
	}
	out, err := parse(b.Finish(), e.OpTime)
	if err != nil {
		return e, false, fmt.Errorf("%s renamed to %q: %w", e.Place(), ns, err)
	}
	out.Wall, out.Partial = e.Wall, e.Partial
	return out, true, nil
}

// withCommand is e as another command in another database.
func (e Entry) withCommand(db string, o, o2 bson.Raw) (Entry, bool, error) {
	return e.with(db+".$cmd", o, o2)
}
