package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// Options configure Open.
type Options struct {
	// Engine is the open store. Required.
	Engine *storage.Engine
	// CompileFilter compiles validators and partial filters, which compare strings under a
	// collation (nil: the simple one). Default: the filter language without $expr.
	CompileFilter func(filter bson.Raw, coll *collate.Collator) (*match.Matcher, error)
	// Observers are called inside the unit of every logged change, in order.
	Observers []OpObserver
	// NewUUID makes the UUIDs of collections and index builds. Default: random ones.
	NewUUID func() bson.UUID
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// BuildMemory bounds the memory of one index build. Default 100 MB.
	BuildMemory int64
	// Logger gets what the operator should see. Default: discarded.
	Logger *slog.Logger
}

func (o *Options) ensureDefaults() {
	if o.CompileFilter == nil {
		o.CompileFilter = func(f bson.Raw, c *collate.Collator) (*match.Matcher, error) {
			return match.Compile(f, match.Options{Collation: c})
		}
	}
	if o.NewUUID == nil {
		o.NewUUID = bson.NewUUID
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.BuildMemory == 0 {
		o.BuildMemory = 100 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Catalog knows what exists in one store.
//
//	cat, err := catalog.Open(…)     // the state that the engine holds
//	stats, err := cat.Recover(ctx)  // and what only the journal holds
//	err = cat.Start(committer, log) // takes writes
type Catalog struct {
	opt       Options
	eng       *storage.Engine
	observers []OpObserver
	committer oplog.Committer
	log       *oplog.Log
	oplogColl *Collection

	current atomic.Pointer[Version]
	// ddl is held by one DDL operation at a time, from the look at the current version
	// until the next one is current.
	ddl chan struct{}

	builds builds
	// replayFinds tells that the newest unit of a replay changed many documents that were there.
	replayFinds atomic.Bool
	// life ends with Close: index builds run in it.
	life struct {
		ctx    context.Context
		cancel context.CancelCauseFunc
		wg     sync.WaitGroup
	}
}

// Open loads the catalog as the engine holds it. Nothing may be asked of it before
// Recover, nothing written before Start.
func Open(o Options) (*Catalog, error) {
	o.ensureDefaults()
	c := &Catalog{opt: o, eng: o.Engine, observers: o.Observers, ddl: make(chan struct{}, 1)}
	c.life.ctx, c.life.cancel = context.WithCancelCause(context.Background())
	c.builds.init()
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("catalog: load: %w", err)
	}
	return c, nil
}

// Start lets writes begin: they go through committer; log is the view of the journal
// (nil: there is no local.oplog.rs). Index builds that a crash interrupted go on in the
// background.
func (c *Catalog) Start(committer oplog.Committer, log *oplog.Log) error {
	c.committer, c.log = committer, log
	if log != nil {
		var err error
		if c.oplogColl, err = c.newOplogCollection(); err != nil {
			return err
		}
	}
	return c.resumeBuilds()
}

// AddObserver adds an observer; only before Recover.
func (c *Catalog) AddObserver(o OpObserver) { c.observers = append(c.observers, o) }

// Close interrupts index builds and waits for them. The store stays open.
func (c *Catalog) Close() {
	c.life.cancel(mongoerr.New(mongoerr.InterruptedAtShutdown, "interrupted at shutdown"))
	c.life.wg.Wait()
}

// Engine is the store.
func (c *Catalog) Engine() *storage.Engine { return c.eng }

// Pin returns the current version, which never changes.
func (c *Catalog) Pin() *Version { return c.current.Load() }

// Oplog is local.oplog.rs, or nil.
func (c *Catalog) Oplog() *Collection { return c.oplogColl }

// Resolve returns the collection of a namespace in the current version; the log
// and its alias too. A view is CommandNotSupportedOnView, nothing at all is nil.
func (c *Catalog) Resolve(ns Namespace) (*Collection, error) {
	if ns.IsOplog() {
		return c.oplogColl, nil
	}
	v := c.Pin()
	if v.View(ns) != nil {
		return nil, onView(ns)
	}
	return v.Lookup(ns), nil
}

func onView(ns Namespace) error {
	return mongoerr.New(mongoerr.CommandNotSupportedOnView, "Namespace %s is a view, not a collection", ns)
}

// NewUnit begins a write unit on the latest state.
func (c *Catalog) NewUnit() *oplog.WriteUnit {
	return oplog.BeginUnit(c.eng)
}

// Commit ends a unit; see oplog.Committer.
func (c *Catalog) Commit(w *oplog.WriteUnit) (*oplog.Future, error) { return c.committer.Commit(w) }

// WriteGrant keeps DDL off a collection while a unit writes to it. Release it when
// the unit has ended.
type WriteGrant struct{ s *collShared }

// Release gives the grant back.
func (g WriteGrant) Release() {
	if g.s != nil {
		g.s.lock.unlockShared()
	}
}

// BeginWrite returns the current state of a collection and the right to write to it,
// made (with the namespace's database) if create is set. Without it the collection is
// nil, without an error, if it does not exist. It waits for DDL on the collection.
func (c *Catalog) BeginWrite(ctx context.Context, ns Namespace, create bool) (*Collection, WriteGrant, error) {
	for {
		v := c.Pin()
		coll := v.Lookup(ns)
		if coll == nil {
			if v.View(ns) != nil {
				return nil, WriteGrant{}, onView(ns)
			}
			if !create {
				return nil, WriteGrant{}, nil
			}
			if err := c.createImplicitly(ctx, ns); err != nil {
				return nil, WriteGrant{}, err
			}
			continue
		}
		s := coll.shared
		if err := s.lock.lockShared(ctx); err != nil {
			return nil, WriteGrant{}, err
		}
		if coll = c.Pin().Lookup(ns); coll != nil && coll.shared == s {
			return coll, WriteGrant{s}, nil
		}
		s.lock.unlockShared() // dropped or renamed while we waited
	}
}

// beginWriteUUID is BeginWrite for the collection of that UUID, nil if there is none.
func (c *Catalog) beginWriteUUID(ctx context.Context, uuid bson.UUID) (*Collection, WriteGrant, error) {
	coll := c.Pin().ByUUID(uuid)
	if coll == nil {
		return nil, WriteGrant{}, nil
	}
	s := coll.shared
	if err := s.lock.lockShared(ctx); err != nil {
		return nil, WriteGrant{}, err
	}
	if coll = c.Pin().ByUUID(uuid); coll == nil {
		s.lock.unlockShared()
		return nil, WriteGrant{}, nil
	}
	return coll, WriteGrant{s}, nil
}

// tryBeginWriteUUID is beginWriteUUID that waits for nobody: ok is false if DDL has the collection.
func (c *Catalog) tryBeginWriteUUID(uuid bson.UUID) (coll *Collection, g WriteGrant, ok bool) {
	if coll = c.Pin().ByUUID(uuid); coll == nil {
		return nil, WriteGrant{}, true
	}
	s := coll.shared
	if !s.lock.tryShared() {
		return nil, WriteGrant{}, false
	}
	if coll = c.Pin().ByUUID(uuid); coll == nil {
		s.lock.unlockShared()
		return nil, WriteGrant{}, true
	}
	return coll, WriteGrant{s}, true
}

// newCollection returns a collection without indexes.
func (c *Catalog) newCollection(ns Namespace, uuid bson.UUID, o *CollectionOptions, t storage.Table) (*Collection, error) {
	ns = Namespace{strings.Clone(ns.DB), strings.Clone(ns.Coll)} // the caller's may lie in a request's buffer
	coll := &Collection{NS: ns, name: ns.String(), UUID: uuid, Options: o, store: storage.RecordStore{Table: t}, cat: c, shared: &collShared{}}
	return coll, coll.compileValidator()
}

func (c *Collection) compileValidator() (err error) {
	c.validator = nil
	if c.Options.Validator != nil {
		c.validator, err = c.cat.opt.CompileFilter(c.Options.Validator, c.Options.Collation)
	}
	return err
}

// newIndex returns an index over table t.
func (c *Catalog) newIndex(spec *IndexSpec, t storage.Table) (*Index, error) {
	ix := &Index{
		Spec:   spec,
		kept:   spec.Kept(),
		Store:  storage.IndexStore{Table: t, ByID: spec.IsID()},
		fields: newKeyFields(spec),
		state:  &indexState{since: c.opt.Now()},
	}
	if spec.IsID() {
		ix.unique = &storage.UniqueKey{Index: ix.Store, Of: ix.appendKeyOf}
	}
	if spec.PartialFilter == nil {
		return ix, nil
	}
	m, err := c.opt.CompileFilter(spec.PartialFilter, spec.Collation)
	if err != nil {
		return nil, err
	}
	ix.partial = m
	return ix, checkPartial(m.Root())
}

// load reads the catalog tables of both spaces.
func (c *Catalog) load() error {
	e := (&Version{dbs: map[string]*database{}, byUUID: map[bson.UUID]*Collection{}}).edit()
	for _, space := range []storage.Space{storage.SpaceReplicated, storage.SpacePrivate} {
		if err := c.loadSpace(e, space); err != nil {
			return err
		}
	}
	for name, db := range e.v.dbs {
		if coll := db.colls[SystemViews]; coll != nil {
			views, err := readViews(c.eng, coll)
			if err != nil {
				return err
			}
			e.setViews(name, views)
		}
	}
	c.current.Store(e.v)
	return nil
}

func (c *Catalog) loadSpace(e *edition, space storage.Space) (err error) {
	prefix := append(catalogTable(space).AppendPrefix(nil), rowCollection)
	cur := c.eng.NewCursor(prefix, append(catalogTable(space).AppendPrefix(nil), rowCollection+1))
	defer func() {
		if cerr := cur.Close(); err == nil {
			err = cerr
		}
	}()
	for ok := cur.First(); ok; ok = cur.Next() {
		d := bson.Raw(cur.Value()).Clone()
		if err := bson.Validate(d, 2*bson.MaxDepth); err != nil {
			return fmt.Errorf("%w: catalog row: %w", storage.ErrCorruption, err)
		}
		coll, err := c.decodeCollection(space, d)
		if err != nil {
			return err
		}
		if err := c.loadState(coll); err != nil {
			return err
		}
		e.put(coll)
	}
	return cur.Err()
}

// loadState reads what is not in the collection's row.
func (c *Catalog) loadState(coll *Collection) error {
	for _, ix := range coll.indexes {
		bits, err := loadMultikey(c.eng, ix.Store.Table)
		if err != nil {
			return err
		}
		ix.state.multikey.committed(&bits)
	}
	d, _, err := loadCounters(c.eng, coll.store.Table)
	if err != nil {
		return err
	}
	coll.shared.stats.count.Store(d.count)
	coll.shared.stats.size.Store(d.size)
	return nil
}

// Collections lists the collections of a database, sorted by name; in local the log
// is among them.
func (c *Catalog) Collections(db string) []*Collection {
	list := c.Pin().Collections(db)
	if db != LocalDB || c.oplogColl == nil {
		return list
	}
	i, _ := slices.BinarySearchFunc(list, OplogColl, func(a *Collection, name string) int { return strings.Compare(a.NS.Coll, name) })
	return slices.Insert(slices.Clone(list), i, c.oplogColl)
}

// Databases lists the databases, sorted; local is always there if there is a log.
func (c *Catalog) Databases() []string {
	list := c.Pin().Databases()
	if i, found := slices.BinarySearch(list, LocalDB); !found && c.oplogColl != nil {
		list = slices.Insert(list, i, LocalDB)
	}
	return list
}
