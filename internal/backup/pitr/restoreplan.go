package pitr

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/load"
	"github.com/cairndb/cairn/internal/backup/pitr/snapshot"
	"github.com/cairndb/cairn/internal/backup/replay"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/bson"
)

// RestoreOptions say what to restore.
type RestoreOptions struct {
	To chain.Moment
	// Include and Exclude are patterns of namespaces (a.b, a.*); Rename pairs a.b=c.d.
	Include, Exclude, Rename []string
	// SplitTransactions replays of a transaction that writes chosen and other namespaces
	// the chosen part; otherwise it is refused.
	SplitTransactions bool
	// Verify compares at the end.
	Verify bool
	// Restart forgets an unfinished restore of something else on the target.
	Restart bool
	// NoUsers leaves users and roles as they are.
	NoUsers bool
	// KeepUUIDs: nil is where the target takes them and nothing is renamed.
	KeepUUIDs *bool
	// Resumable keeps the state of the restore on the target, so that another one goes on.
	Resumable bool
}

// RestorePlan is what a restore would do.
type RestorePlan struct {
	To     bson.Timestamp
	Chain  chain.Plan
	Exact  bool // the increment was given; else everything of the second is in
	Target string

	Collections []PlannedCollection
	Views       []string // as they are called on the target
	// Entries and Bytes are those of the oplog that is read; a part of it is replayed.
	OplogEntries, OplogBytes int64
	Documents, DataBytes     int64
	// Overwritten are namespaces that are on the target and will be dropped first.
	Overwritten []string
	// Untouched are collections beside the restored ones that stay as they are.
	Untouched []string
	// Resumes tells that an unfinished restore of the same is continued.
	Resumes  bool
	Estimate time.Duration

	id      string
	rules   *entry.Rules
	named   []string // all namespaces of the full backup, selected or not
	catalog []catalogEntry
	views   []view
	base    bson.Timestamp
	state   *State
}

// FullManifest is the manifest of the full backup that the restore begins with.
func (p *RestorePlan) FullManifest() *repo.Manifest { return p.state.Manifests[p.Chain.Full.ID] }

// PlannedCollection is one collection of the full backup and where it goes.
type PlannedCollection struct {
	From, To         string
	Documents, Bytes int64
}

// catalogEntry is a collection of a full backup with the place of its documents.
type catalogEntry struct {
	snapshot.Collection
	to     string // namespace on the target
	stream string // "" none
	sum    collectionSum
}

// rules builds the filter.
func (o *RestoreOptions) rules() (*entry.Rules, error) {
	r := &entry.Rules{SplitTransactions: o.SplitTransactions}
	for _, p := range o.Include {
		c, err := entry.ParsePattern(p)
		if err != nil {
			return nil, badSelection("--ns %s: %v", p, err)
		}
		r.Include = append(r.Include, c)
	}
	for _, p := range o.Exclude {
		c, err := entry.ParsePattern(p)
		if err != nil {
			return nil, badSelection("--exclude-ns %s: %v", p, err)
		}
		r.Exclude = append(r.Exclude, c)
	}
	for _, p := range o.Rename {
		from, to, ok := strings.Cut(p, "=")
		if !ok || from == "" || to == "" {
			return nil, badSelection("--rename %s: give FROM=TO, such as shop.orders=shop.orders_old", p)
		}
		c, err := entry.ParseRename(from, to)
		if err != nil {
			return nil, badSelection("--rename %s: %v", p, err)
		}
		r.Rename = append(r.Rename, c)
	}
	return r, nil
}

// speeds for the estimate, on purpose below what a small machine does.
const (
	estimatedBytes   = 20 << 20 // of documents a second
	estimatedEntries = 30_000   // a second
)

// PlanRestore says what a restore would do, and touches nothing. A moment that cannot be
// restored is a *chain.NotRestorableError.
func (e *Env) PlanRestore(ctx context.Context, o RestoreOptions) (*RestorePlan, error) {
	st, err := e.State(ctx)
	if err != nil {
		return nil, err
	}
	p, err := e.plan(ctx, st, o)
	if err != nil {
		return nil, err
	}
	return p, e.planTarget(ctx, p, o)
}

// plan is what can be said without the target.
func (e *Env) plan(ctx context.Context, st *State, o RestoreOptions) (*RestorePlan, error) {
	rules, err := o.rules()
	if err != nil {
		return nil, err
	}
	to := o.To.TS
	if o.To.Latest {
		newest, ok := st.Coverage.Newest()
		if !ok {
			return nil, &chain.NotRestorableError{To: to}
		}
		to = newest.TS
	}
	c, err := st.Coverage.Plan(to)
	if err != nil {
		return nil, err
	}
	p := &RestorePlan{To: to, Exact: o.To.Exact || o.To.Latest, Chain: c, rules: rules, state: st}
	m := st.Manifests[c.Full.ID]
	var d fullDetails
	if err := json.Unmarshal(m.Details, &d); err != nil {
		return nil, fmt.Errorf("backup %s: its details: %w", m.ID, err)
	}
	p.base = toOpTime(d.Base).TS
	if p.catalog, err = e.catalog(ctx, st, c.Full.ID); err != nil {
		return nil, err
	}
	for i := range p.catalog {
		p.named = append(p.named, p.catalog[i].Namespace())
	}
	p.catalog = slices.DeleteFunc(p.catalog, func(c catalogEntry) bool {
		if c.DB == "admin" && strings.HasPrefix(c.Name, "system.") && o.NoUsers {
			return true
		}
		_, keep := rules.Namespace(c.Namespace())
		return !keep
	})
	for i := range p.catalog {
		c := &p.catalog[i]
		c.to, _ = rules.Namespace(c.Namespace())
		if c.stream != "" && c.Name != "system.views" { // whose documents become Views
			p.Collections = append(p.Collections, PlannedCollection{c.Namespace(), c.to, c.sum.Documents, c.sum.Bytes})
			p.Documents += c.sum.Documents
			p.DataBytes += c.sum.Bytes
		}
	}
	for _, b := range append([]chain.Backup{c.Full}, c.Pieces...) {
		p.OplogEntries += b.Entries
		p.OplogBytes += st.Manifests[b.ID].Sizes[sizeOplog]
	}
	p.Estimate = time.Duration(float64(time.Second) * (float64(p.DataBytes)/estimatedBytes + float64(p.OplogEntries)/estimatedEntries)).Round(time.Second)
	if p.views, err = e.readViews(ctx, p); err != nil {
		return nil, err
	}
	for _, v := range p.views {
		p.Views = append(p.Views, v.to)
	}
	if err := p.checkSelection(); err != nil {
		return nil, err
	}
	p.id = planID(p, o)
	return p, nil
}

// planID tells one restore from another.
func planID(p *RestorePlan, o RestoreOptions) string {
	h := sha256.New()
	fmt.Fprintln(h, p.Chain.Full.ID, chain.Text(p.To), o.Include, o.Exclude, o.Rename, o.NoUsers)
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// catalog reads a full backup's catalog.
func (e *Env) catalog(ctx context.Context, st *State, id string) (all []catalogEntry, err error) {
	ref, ok := stream(st.Manifests[id], streamCatalog)
	if !ok {
		return nil, &ChainError{id, "it has no catalog"}
	}
	r, err := e.Repo.Open(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w", id, err)
	}
	defer r.Close() //nolint:errcheck // it was only read, and read to its checked end
	err = documents(r, func(raw bson.Raw) error {
		raw = raw.Clone()
		c, err := snapshot.Unmarshal(raw)
		if err != nil {
			return err
		}
		n, _ := raw.Get("documents").AsInt64()
		size, _ := raw.Get("bytes").AsInt64()
		all = append(all, catalogEntry{Collection: c, stream: raw.Get("stream").Str(),
			sum: collectionSum{c.Namespace(), n, size, raw.Get("hash").Str(), raw.Get("exact").Bool()}})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("backup %s: its catalog: %w", id, err)
	}
	return all, nil
}

// planTarget looks at what is on the target.
func (e *Env) planTarget(ctx context.Context, p *RestorePlan, o RestoreOptions) error {
	if err := replay.Check(ctx, e.Client); err != nil {
		return fmt.Errorf("restoring into this server: %w", err)
	}
	t := &load.Target{Client: e.Client}
	affected, databases := p.affected()
	dbs := map[string]bool{}
	for ns := range affected {
		db, _, _ := strings.Cut(ns, ".")
		dbs[db] = true
	}
	for db := range databases {
		dbs[db] = true
	}
	for db := range dbs {
		names, err := t.Exists(ctx, db)
		if err != nil {
			return err
		}
		for _, n := range names {
			switch ns := db + "." + n; {
			case strings.HasPrefix(n, "system.") && !strings.HasPrefix(n, "system.buckets.") && n != "system.js":
			case affected[ns] || databases[db]:
				p.Overwritten = append(p.Overwritten, ns)
			case affected[strings.Replace(ns, ".system.buckets.", ".", 1)]: // goes with its time-series collection
			default:
				p.Untouched = append(p.Untouched, ns)
			}
		}
	}
	slices.Sort(p.Overwritten)
	slices.Sort(p.Untouched)
	s, err := e.readProgress(ctx)
	if err != nil {
		return err
	}
	if s == nil || o.Restart {
		return nil
	}
	if s.Plan != p.id {
		return fmt.Errorf("the target holds an unfinished restore of something else (%s, begun %s): finish it with the same arguments, or give --restart to forget it", s.What, s.Started.Format(time.RFC3339))
	}
	if p.Resumes = true; s.Phase > phaseDrop {
		p.Overwritten = nil // dropped by the earlier run; what is there now is the restore's
	}
	return nil
}

// affected are the namespaces on the target that the restore writes: those of the full backup
// and those that the oplog names. A database is in the second map if all of it may be: it is
// dropped on the way, or too many namespaces were written to name them all.
func (p *RestorePlan) affected() (namespaces, databases map[string]bool) {
	namespaces, databases = map[string]bool{}, map[string]bool{}
	add := func(ns string) {
		if to, keep := p.rules.Namespace(ns); keep {
			namespaces[strings.Replace(to, ".system.buckets.", ".", 1)] = true
		}
	}
	for i := range p.catalog {
		if c := &p.catalog[i]; !strings.HasPrefix(c.Name, "system.") || strings.HasPrefix(c.Name, "system.buckets.") {
			add(c.Namespace())
		}
	}
	for _, v := range p.views {
		namespaces[v.to] = true
	}
	for _, b := range append([]chain.Backup{p.Chain.Full}, p.Chain.Pieces...) {
		w, err := writtenIn(p.state.Manifests[b.ID])
		if err != nil || w.More {
			for i := range p.catalog {
				db, _, _ := strings.Cut(p.catalog[i].to, ".")
				databases[db] = true
			}
		}
		for ns := range w.Namespaces {
			db, coll, _ := strings.Cut(ns, ".")
			switch {
			case db == "admin" && strings.HasPrefix(coll, "system."), db == "config", db == "local", db == scratchDB:
			case coll == "system.views":
			case coll != "":
				add(ns)
			case p.rules.WholeDatabase(db):
				databases[db] = true
			}
		}
	}
	delete(databases, "admin")
	return namespaces, databases
}
