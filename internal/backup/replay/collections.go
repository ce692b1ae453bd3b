package replay

import (
	"context"
	"crypto/sha256"
	"strings"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// collection is one of the target.
type collection struct {
	ns       string
	uuid     bson.UUID // the target's; zero of a view
	sendUUID bool      // entries name it by its UUID
	// oneBucket keeps all its writes in order: capped collections, those of a collation
	// in which different _ids are equal, and the system's.
	oneBucket bool
	capped    bool
	number    uint64
	view      bool
	source    bson.UUID // the source's, zero if not known
}

// collections follows what the target has, and which of the source's collections they are.
type collections struct {
	t *target
	o *Options

	byName   map[string]*collection
	byUUID   map[bson.UUID]*collection // by the target's
	bySource map[bson.UUID]*collection
	named    map[string]bson.UUID // of Options.Collections: which one has that name
	loaded   map[string]bool      // databases
	n        uint64

	// What the last write resolved to: runs of writes go to one collection.
	lastUUID bson.UUID
	lastNS   string
	last     *collection
}

func newCollections(t *target, o *Options) *collections {
	cs := &collections{t: t, o: o, byName: map[string]*collection{}, byUUID: map[bson.UUID]*collection{}, bySource: map[bson.UUID]*collection{},
		loaded: map[string]bool{}, named: map[string]bson.UUID{}}
	for u, ns := range o.Collections {
		cs.named[ns] = u
	}
	return cs
}

// load reads a database's collections once.
func (cs *collections) load(ctx context.Context, db string) error {
	if cs.loaded[db] {
		return nil
	}
	infos, err := cs.t.list(ctx, db)
	if err != nil {
		return err
	}
	db = strings.Clone(db)
	for _, i := range infos {
		c := cs.put(db+"."+i.name, i.uuid)
		c.view = i.view
		c.oneBucket, c.capped = c.oneBucket || i.ordered, i.capped
		if u, ok := cs.named[c.ns]; ok && !i.view {
			c.source = u
			cs.bySource[u] = c
		}
	}
	cs.loaded[db] = true
	return nil
}

// put notes that the target has a collection.
func (cs *collections) put(ns string, uuid bson.UUID) *collection {
	cs.n++
	c := &collection{ns: ns, uuid: uuid, number: cs.n, sendUUID: cs.t.cairn && uuid != bson.UUID{}}
	_, coll, _ := strings.Cut(ns, ".")
	c.oneBucket = strings.HasPrefix(coll, "system.") && !strings.HasPrefix(coll, "system.buckets.")
	c.sendUUID = c.sendUUID && !systemNS(ns)
	cs.byName[ns] = c
	if uuid != (bson.UUID{}) {
		cs.byUUID[uuid] = c
	}
	return c
}

// remove notes that the target has a collection no more.
func (cs *collections) remove(c *collection) {
	cs.last = nil
	if cs.byName[c.ns] == c {
		delete(cs.byName, c.ns)
	}
	if cs.byUUID[c.uuid] == c {
		delete(cs.byUUID, c.uuid)
	}
	if cs.bySource[c.source] == c {
		delete(cs.bySource, c.source)
	}
}

// rename notes that a collection has another name.
func (cs *collections) rename(c *collection, to string) {
	cs.last = nil
	if cs.byName[c.ns] == c {
		delete(cs.byName, c.ns)
	}
	c.ns = strings.Clone(to)
	cs.byName[c.ns] = c
}

// adopt notes that a collection of the target is the source's u.
func (cs *collections) adopt(c *collection, u bson.UUID) *collection {
	cs.last = nil
	if u != (bson.UUID{}) {
		c.source = u
		cs.bySource[u] = c
	}
	return c
}

const (
	whyGone  = "its collection is not on the target: it was dropped before the data was read, or later in the oplog"
	whyNewer = "a newer collection has the name"
)

// resolve is the target's collection that a document write goes to; nil, with the
// reason, if that is gone.
func (cs *collections) resolve(ctx context.Context, e *entry.Entry) (*collection, string, error) {
	if cs.last != nil && e.UUID == cs.lastUUID && e.NS == cs.lastNS {
		return cs.last, "", nil
	}
	c, err := cs.lookup(ctx, e.DB, e.Namespace(), e.UUID)
	if err != nil {
		return nil, "", err
	}
	if c == nil && isSystem(e) {
		if c, err = cs.createSystem(ctx, e); err != nil {
			return nil, "", err
		}
	}
	switch {
	case c != nil:
		cs.last, cs.lastUUID, cs.lastNS = c, e.UUID, strings.Clone(e.NS)
		return c, "", nil
	case cs.knows(e.UUID) || e.Kind == entry.Delete:
		return nil, whyGone, nil
	}
	return nil, "", &NoCollectionError{e.Namespace()}
}

// knows reports whether it can be told of a source's collection that it is gone.
func (cs *collections) knows(u bson.UUID) bool {
	return u != (bson.UUID{}) && (cs.o.PreserveUUID || cs.o.Resume || cs.o.Collections != nil || cs.bySource[u] == nil && cs.wasSeen(u))
}

// wasSeen remembers the source's collections that were dropped in this replay.
func (cs *collections) wasSeen(u bson.UUID) bool {
	_, ok := cs.o.dropped[u]
	return ok
}

// lookup is the target's collection for the source's u, which is called ns there; nil
// if there is none.
func (cs *collections) lookup(ctx context.Context, db, ns string, u bson.UUID) (*collection, error) {
	if err := cs.load(ctx, db); err != nil {
		return nil, err
	}
	named := cs.byName[ns]
	switch {
	case u == bson.UUID{} || systemNS(ns):
		return named, nil
	case cs.bySource[u] != nil:
		return cs.bySource[u], nil
	case cs.o.PreserveUUID && !cs.o.Foreign[u]:
		c := cs.byUUID[u]
		if c != nil {
			cs.adopt(c, u)
		}
		return c, nil
	}
	if c := cs.byUUID[cs.derive(u, db)]; c != nil {
		return cs.adopt(c, u), nil
	}
	if cs.o.PreserveUUID {
		return nil, nil
	}
	if named != nil && derived(named.uuid) {
		return nil, nil // a replay has created it for another one of the source's
	}
	if cs.o.Collections != nil || cs.wasSeen(u) || named == nil || named.view {
		return nil, nil
	}
	if named.source != (bson.UUID{}) && named.source != u {
		return nil, nil // it is another one of the source's
	}
	return cs.adopt(named, u), nil
}

// derive is CopyUUID with the replay's options.
func (cs *collections) derive(u bson.UUID, db string) bson.UUID {
	return CopyUUID(u, db, cs.o.Copy, cs.o.Rules)
}

// CopyUUID is the UUID on the target of the source's u, created there in db: always the
// same, so that a replay which is repeated knows what an earlier one has created; and
// another one where the renames or the copy are others.
func CopyUUID(u bson.UUID, db, copyName string, rules *entry.Rules) (d bson.UUID) {
	h := sha256.New()
	text := func(s string) { _, _ = h.Write(append([]byte(s), 0)) }
	text("cairn replay")
	text(db)
	if rules != nil {
		for _, rn := range rules.Rename {
			text(rn.From)
			text(rn.To)
		}
	}
	if copyName != "" {
		text(copyName)
	}
	_, _ = h.Write(u[:])
	copy(d[:], h.Sum(nil))
	d[6], d[8] = d[6]&0x0F|0x80, d[8]&0x3F|0x80
	return d
}

// derived reports whether derive made u: it is of version 8, which servers do not make.
func derived(u bson.UUID) bool { return u[6]>>4 == 8 }

// systemNS reports whether a collection is one of the server's own, of which there is
// one by its name, whatever its UUID.
func systemNS(ns string) bool {
	_, coll, _ := strings.Cut(ns, ".")
	return coll == "system.views" || coll == "system.js" || strings.HasPrefix(ns, "admin.system.")
}

func isSystem(e *entry.Entry) bool { return systemNS(e.Namespace()) }

// createSystem creates a collection that the source's server has made by itself.
func (cs *collections) createSystem(ctx context.Context, e *entry.Entry) (*collection, error) {
	if err := cs.t.create(ctx, e.DB, bson.D("create", e.Coll), bson.UUID{}); err != nil && !isCode(err, codeNamespaceExists) {
		return nil, err
	}
	delete(cs.loaded, e.DB)
	if err := cs.load(ctx, e.DB); err != nil {
		return nil, err
	}
	return cs.byName[e.Namespace()], nil
}
