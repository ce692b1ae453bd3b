package pitr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/docsum"
	"github.com/cairndb/cairn/internal/backup/pitr/expect"
	"github.com/cairndb/cairn/internal/backup/pitr/indexes"
	"github.com/cairndb/cairn/internal/backup/pitr/load"
	"github.com/cairndb/cairn/internal/backup/pitr/snapshot"
	"github.com/cairndb/cairn/internal/backup/replay"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/tool"
	"github.com/cairndb/cairn/internal/bson"
)

// Restored is what a restore did.
type Restored struct {
	To          bson.Timestamp
	Full        string
	Collections int
	Documents   int64
	Indexes     int
	Replay      replay.Stats
	// Unfinished are transactions that were not committed at the moment: they are left out.
	Unfinished []entry.OpenTxn
	Took       time.Duration
	ReplayTook time.Duration
	// Verified is what a comparison found; nil if none was asked for.
	Verified *Comparison
}

// restorer is a restore under way.
type restorer struct {
	env    *Env
	p      *RestorePlan
	o      RestoreOptions
	target *load.Target
	track  *tracker
	resume *progress // what an earlier run left, nil if nothing
	// foreign are collections on the target that stay as they are, and may have UUIDs of the source.
	foreign map[bson.UUID]bool
	set     indexes.Set
	expect  *expect.Set
	out     Restored
	docs    atomic.Int64
}

// Restore does what a plan says. Confirmation is the caller's: what Overwritten names is dropped.
func (e *Env) Restore(ctx context.Context, p *RestorePlan, o RestoreOptions) (out *Restored, err error) {
	started := time.Now()
	_, unlock, err := e.lock(ctx, repo.LockRequest{Kind: repo.Shared, Purpose: "restore"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	r := &restorer{env: e, p: p, o: o, target: &load.Target{Client: e.Client},
		track: &tracker{env: e, off: !o.Resumable, p: progress{Plan: p.id, What: "to " + chain.Describe(p.To), Started: started.UTC()}}}
	if p.Resumes {
		if r.resume, err = e.readProgress(ctx); err != nil {
			return nil, err
		}
	}
	if r.resume != nil {
		if err := replay.AwaitEarlier(ctx, e.Client, 10*time.Minute, e.say); err != nil {
			return nil, err
		}
		r.track.p = *r.resume
		r.track.applied.Store(uint64(bson.NewTimestamp(r.resume.Applied.T, r.resume.Applied.I)))
	} else {
		r.chooseUUIDs(ctx)
	}
	r.target.PreserveUUID = r.track.p.UUIDs || r.track.p.Copy != ""
	if r.track.p.UUIDs {
		if r.foreign, err = r.foreignUUIDs(ctx); err != nil {
			return nil, err
		}
	}
	if o.Verify {
		r.expect = expect.New(expect.DefaultLimit)
	}
	for _, step := range []func(context.Context) error{r.drop, r.data, r.oplog, r.finish} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	if o.Verify {
		if r.out.Verified, err = r.verify(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.buildTTL(ctx); err != nil {
		return nil, err
	}
	if err := r.track.finish(ctx); err != nil {
		return nil, err
	}
	r.out.To, r.out.Full, r.out.Documents = p.To, p.Chain.Full.ID, r.docs.Load()
	r.out.Took = time.Since(started)
	if v := r.out.Verified; v != nil && len(v.Differences) > 0 {
		return &r.out, &DifferError{*v}
	}
	return &r.out, nil
}

// chooseUUIDs decides which UUIDs collections get: those that they had, as told, else if
// everything keeps its name; or else such as this restore alone gives, by which a run that goes on
// knows its collections; or the target's own, if it takes none.
func (r *restorer) chooseUUIDs(ctx context.Context) {
	keep := len(r.o.Rename) == 0
	if r.o.KeepUUIDs != nil {
		keep = *r.o.KeepUUIDs
	}
	probe := &load.Target{Client: r.env.Client, PreserveUUID: true}
	ns := scratchDB + ".uuid"
	err := probe.Drop(ctx, ns) // of a run that was interrupted just here
	if err == nil {
		err = probe.Create(ctx, ns, bson.NewUUID(), bson.Empty)
	}
	if err == nil {
		err = probe.Drop(ctx, ns)
	}
	switch {
	case r.o.KeepUUIDs != nil && keep: // whoever insists sees the target's own refusal
		r.track.p.UUIDs = true
	case err != nil:
		r.env.say("the target makes no collections with given UUIDs: they get new ones (%v)", err)
	case keep:
		r.track.p.UUIDs = true
	}
	if err == nil {
		r.track.p.Copy = bson.NewUUID().String()
	}
}

// foreignUUIDs are those of the target's collections that the restore does not touch.
func (r *restorer) foreignUUIDs(ctx context.Context) (map[bson.UUID]bool, error) {
	if len(r.p.Untouched) == 0 {
		return nil, nil
	}
	reader := snapshot.Reader{Client: r.env.Client}
	colls, err := reader.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	foreign := map[bson.UUID]bool{}
	for i := range colls {
		if slices.Contains(r.p.Untouched, colls[i].Namespace()) {
			foreign[colls[i].UUID] = true
		}
	}
	return foreign, nil
}

// uuid is what a collection of the backup gets on the target.
func (r *restorer) uuid(c *catalogEntry) bson.UUID {
	switch {
	case c.UUID == bson.UUID{}, r.track.p.UUIDs && !r.foreign[c.UUID]:
		return c.UUID
	case r.track.p.Copy == "":
		return bson.UUID{}
	}
	db, _, _ := strings.Cut(c.to, ".")
	return replay.CopyUUID(c.UUID, db, r.track.p.Copy, r.p.rules)
}

// past reports whether an earlier run has finished a phase.
func (r *restorer) past(phase int) bool { return r.resume != nil && r.resume.Phase > phase }

// drop drops what is overwritten.
func (r *restorer) drop(ctx context.Context) error {
	if r.past(phaseDrop) {
		return nil
	}
	if err := r.track.phase(ctx, phaseDrop); err != nil {
		return err
	}
	for _, ns := range r.p.Overwritten {
		r.env.say("dropping %s", ns)
		if err := r.target.Drop(ctx, ns); err != nil {
			return err
		}
	}
	return r.track.phase(ctx, phaseData)
}

// data makes the collections and inserts their documents, several at once.
func (r *restorer) data(ctx context.Context) error {
	for i := range r.p.catalog {
		c := &r.p.catalog[i]
		for _, spec := range c.Indexes {
			r.set.Add(c.to, spec)
		}
		if r.expect != nil && !special(c) && c.stream != "" {
			sum, err := docsum.Parse(c.sum.Hash, c.sum.Documents, c.sum.Bytes)
			if err != nil {
				return fmt.Errorf("backup %s: %s: %w", r.p.Chain.Full.ID, c.Namespace(), err)
			}
			r.expect.Collection(c.to, sum, c.sum.Exact, c.Options.Get("capped").Truthy())
		}
	}
	if r.past(phaseData) {
		return nil
	}
	if err := r.beforeData(ctx); err != nil {
		return err
	}
	next := make(chan *catalogEntry)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range r.env.workers() {
		wg.Go(func() {
			for c := range next {
				if err := r.collection(ctx, c); err != nil {
					cancel(err)
				}
			}
		})
	}
	// The largest first, so that the end is not one of them alone.
	order := make([]*catalogEntry, len(r.p.catalog))
	for i := range r.p.catalog {
		order[i] = &r.p.catalog[i]
	}
	slices.SortStableFunc(order, func(a, b *catalogEntry) int { return cmp.Compare(b.sum.Bytes, a.sum.Bytes) })
feed:
	for _, c := range order {
		select {
		case next <- c:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// Before the oplog, which changes them further.
	if err := r.users(ctx); err != nil {
		return err
	}
	return r.track.phase(ctx, phaseOplog)
}

// special are collections that commands are there for.
func special(c *catalogEntry) bool {
	return c.Name == "system.views" || c.DB == "admin" && (c.Name == "system.users" || c.Name == "system.roles")
}

// collection makes one collection with its documents.
func (r *restorer) collection(ctx context.Context, c *catalogEntry) (err error) {
	if special(c) || c.Type == "timeseries" {
		return nil
	}
	if r.resume != nil && slices.Contains(r.resume.Done, c.to) {
		return nil
	}
	if !isBuckets(c.to) { // beforeData has made those anew, with their time-series collection
		if r.resume != nil {
			if err := r.target.Drop(ctx, c.to); err != nil {
				return err
			}
		}
		if err := r.target.Create(ctx, c.to, r.uuid(c), c.Options); err != nil {
			return err
		}
	}
	if c.stream != "" {
		if err := r.documents(ctx, c); err != nil {
			return err
		}
	}
	return r.track.collectionDone(ctx, c.to)
}

// documents inserts a collection's documents.
func (r *restorer) documents(ctx context.Context, c *catalogEntry) (err error) {
	ref, ok := stream(r.p.state.Manifests[r.p.Chain.Full.ID], c.stream)
	if !ok {
		return &ChainError{r.p.Chain.Full.ID, "it has no stream " + c.stream}
	}
	in, err := r.env.Repo.Open(ctx, ref)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Namespace(), err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	add, done := r.env.bar(c.to, c.sum.Documents)
	defer done()
	got, err := r.target.Insert(ctx, c.to, in, c.Options.Get("capped").Truthy(), func(n int64) { add(n); r.docs.Add(n) })
	if err != nil {
		return err
	}
	want, err := docsum.Parse(c.sum.Hash, c.sum.Documents, c.sum.Bytes)
	if err != nil {
		return err
	}
	if !got.Sum.Equal(want) {
		return fmt.Errorf("%s: %s with hash %s came out of the backup, its manifest says %d with %s", c.Namespace(), tool.Count(got.Sum.Documents, "document", "documents"), got.Sum.Hash(), want.Documents, want.Hash())
	}
	if got.Doubled > 0 && c.sum.Exact {
		return fmt.Errorf("%s: %s an _id that another one has, though nothing wrote to the collection while it was copied", c.Namespace(), tool.Count(got.Doubled, "document has", "documents have"))
	}
	return nil
}

// rounds of the oplog are told as read in bytes.
func (r *restorer) oplog(ctx context.Context) (err error) {
	started := time.Now()
	names := map[bson.UUID]string{}
	for i := range r.p.catalog {
		if c := &r.p.catalog[i]; c.UUID != (bson.UUID{}) {
			names[c.UUID] = c.to
		}
	}
	switch {
	case len(names) == 0 && len(r.p.catalog) > 0:
		names = nil // a source without UUIDs: names are what there is
	case !r.track.p.UUIDs && r.track.p.Copy != "":
		// Their UUIDs tell, not their names, which the replay changes; but for buckets, which the
		// target makes with their time-series collection.
		maps.DeleteFunc(names, func(_ bson.UUID, ns string) bool { return !isBuckets(ns) })
	case r.resume != nil:
		if names, err = r.namesNow(ctx, names); err != nil {
			return err
		}
	}
	rp, err := replay.New(ctx, replay.Options{Client: r.env.Client, Rules: r.p.rules, PreserveUUID: r.track.p.UUIDs, Copy: r.track.p.Copy, Foreign: r.foreign, Collections: names,
		Until: r.p.To, Applied: r.track.Applied})
	if err != nil {
		return err
	}
	keepCtx, stop := context.WithCancel(ctx)
	kept := make(chan error, 1)
	go func() { kept <- r.track.keep(keepCtx) }()
	add, done := r.env.bar("oplog", r.p.OplogBytes)
	ferr := r.feed(ctx, rp, add)
	done()
	stats, cerr := rp.Close()
	stop()
	kerr := <-kept
	if ferr == nil {
		ferr = cerr
	}
	if err := errors.Join(ferr, kerr, r.track.saveApplied(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	r.out.Replay, r.out.Unfinished, r.out.ReplayTook = stats, stats.Unfinished, time.Since(started)
	return r.track.phase(ctx, phaseIndexes)
}

// feed hands the oplog to the replay, and to what watches it: indexes and expectation.
func (r *restorer) feed(ctx context.Context, rp *replay.Replayer, read func(int64)) error {
	txns := &openTxns{base: r.p.base}
	var asm entry.Assembler
	from := bson.Timestamp(0) // entries up to here were replayed by an earlier run
	if r.resume != nil {
		from = bson.Timestamp(r.track.applied.Load())
		if r.past(phaseOplog) {
			from = r.p.To
		}
	}
	one := func(e *entry.Entry) error {
		raw, err := r.watch(e, &asm)
		if err != nil || raw == nil || e.OpTime.TS <= from && !e.Kind.IsTxn() {
			return err
		}
		if len(raw) == len(e.Raw) {
			err = rp.AddEntry(*e)
		} else {
			err = rp.Add(raw)
		}
		if err != nil || r.track.off || !e.Kind.IsCommand() || e.Kind.HasOps() || e.Kind.IsTxn() {
			return err
		}
		// What changes collections is not repeated after an interruption.
		if err := rp.Flush(); err != nil {
			return err
		}
		return r.track.saveApplied(ctx)
	}
	f := &feeder{env: r.env, to: r.p.To, read: read, fn: func(e *entry.Entry) error {
		if txns.done {
			return one(e)
		}
		for _, raw := range txns.add(e) {
			held, err := entry.Parse(raw)
			if err != nil {
				return err
			}
			if err := one(&held); err != nil {
				return err
			}
		}
		return nil
	}}
	return f.run(ctx, r.p.state, r.p.Chain.Full.ID, r.p.Chain.Pieces)
}

// namesNow is what the collections of the source are called on the target after what an earlier run
// replayed.
func (r *restorer) namesNow(ctx context.Context, names map[bson.UUID]string) (map[bson.UUID]string, error) {
	if r.track.p.UUIDs { // the target knows best
		reader := snapshot.Reader{Client: r.env.Client}
		colls, err := reader.Catalog(ctx)
		if err != nil {
			return nil, err
		}
		buckets := map[string]bson.UUID{} // made with their time-series collection
		for u, ns := range names {
			if isBuckets(ns) {
				buckets[ns] = u
			}
		}
		now := map[bson.UUID]string{}
		for i := range colls {
			u, ns := colls[i].UUID, colls[i].Namespace()
			if source, ok := buckets[ns]; ok {
				u = source
			}
			now[u] = ns
		}
		return now, nil
	}
	applied := bson.Timestamp(r.track.applied.Load())
	f := &feeder{env: r.env, to: min(applied, r.p.To), fn: func(e *entry.Entry) error {
		if !e.Kind.IsCommand() || !e.HasUUID() || e.OpTime.TS <= r.p.base {
			return nil
		}
		switch mapped, keep, err := r.p.rules.Map(*e); {
		case err != nil:
			return err
		case e.Kind == entry.Drop, e.Kind == entry.RenameCollection && !keep:
			delete(names, e.UUID)
		case e.Kind == entry.Create && keep:
			names[e.UUID] = strings.Clone(mapped.Namespace())
		case e.Kind == entry.RenameCollection && keep:
			names[e.UUID] = strings.Clone(mapped.RenameTarget())
			if victim, ok := e.O.Get("dropTarget").UUID(); ok {
				delete(names, victim)
			}
		}
		return nil
	}}
	if applied == 0 {
		return names, nil
	}
	return names, f.run(ctx, r.p.state, r.p.Chain.Full.ID, r.p.Chain.Pieces)
}

// isBuckets reports whether a namespace holds the buckets of a time-series collection.
func isBuckets(ns string) bool {
	_, coll, _ := strings.Cut(ns, ".")
	return strings.HasPrefix(coll, "system.buckets.")
}

// watch tells those who look at the replay about an entry and returns what of it is to be
// replayed, nil for nothing.
func (r *restorer) watch(e *entry.Entry, asm *entry.Assembler) (bson.Raw, error) {
	if r.expect != nil {
		units, err := asm.Add(*e)
		if err != nil {
			return nil, err
		}
		for i := range units {
			u, keep, err := r.p.rules.MapUnit(units[i])
			if err != nil {
				return nil, err
			}
			if keep {
				if err := r.expect.Unit(&u); err != nil {
					return nil, err
				}
			}
		}
	}
	if !e.Kind.IsCommand() {
		return e.Raw, nil
	}
	mapped, keep, err := r.p.rules.Map(*e)
	if err != nil {
		return nil, err
	}
	if !keep {
		return e.Raw, nil
	}
	switch taken, err := r.set.Apply(&mapped); {
	case err != nil:
		return nil, err
	case taken == indexes.Whole:
		return nil, nil
	case taken == indexes.Part:
		return indexes.Rest(e), nil
	}
	return e.Raw, nil
}
