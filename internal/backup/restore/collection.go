package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/tool"
)

// exists says whether the server has a collection or view.
func (r *Restore) exists(ctx context.Context, db, coll string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	have := r.existing[db]
	if have == nil {
		names, err := r.client.Database(db).ListCollectionNames(ctx, bson.D{})
		if err != nil {
			return false, err
		}
		have = map[string]bool{}
		for _, n := range names {
			have[n] = true
		}
		r.existing[db] = have
	}
	return have[coll], nil
}

func (r *Restore) setExists(db, coll string, there bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.existing[db] != nil {
		r.existing[db][coll] = there
	}
}

// restoreData restores all collections and views.
func (r *Restore) restoreData(ctx context.Context) error {
	all, _ := r.workers()
	producers := r.o.Output.NumParallelCollections
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var memory func(int64)
	if r.o.Memory != nil {
		base := r.baseMemory()
		r.o.Memory(base)
		memory = func(n int64) { r.o.Memory(base + n) }
	}
	r.pool = newPool(ctx, r.client, r.server, r.log, all, producers, insertOptions{
		writeConcern: r.writeConcern(), unacknowledged: !r.o.Acknowledged(),
		bypassValidation: r.o.Output.BypassDocumentValidation, objcheck: r.o.Input.Objcheck,
		stopOnError: r.o.Output.StopOnError, logEach: r.o.Original, retry: r.o.retryFor(), sessions: r.sessions, memory: memory,
	})
	var err error
	if r.archive != nil {
		err = r.restoreArchive(ctx)
	} else {
		err = r.restoreFiles(ctx)
	}
	if err != nil {
		r.pool.fail(err)
	}
	if perr := r.pool.close(); err == nil {
		err = perr
	}
	r.sumUp()
	if err != nil && !r.o.Original {
		r.tellUnfinished()
	}
	return err
}

// baseMemory is what a restore of small documents needs: buffers, their copies and the
// garbage between two collections of it, and the windows of packed files.
func (r *Restore) baseMemory() int64 {
	all, _ := r.workers()
	producers := int64(r.o.Output.NumParallelCollections)
	n := int64(32<<20) + (producers+4*int64(all)+2)*batchBytes*3/2 + producers*blockSize
	packed := int64(0)
	for _, t := range r.plan.tasks {
		if t.form == zstandard {
			packed = producers
		}
	}
	if r.archive != nil {
		packed = 1
	}
	return n + packed*(24<<20)
}

// sumUp adds up what the loaders did, also those that did not come to their end.
func (r *Restore) sumUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for src, l := range r.loaders {
		res, fail := l.outcome()
		res.add(l.before)
		n := r.results[src]
		if n == nil {
			n = &nsResult{}
			r.results[src] = n
		}
		if !r.o.Original || r.o.Acknowledged() {
			n.Result, n.failures = res, fail
		}
	}
	r.total = Result{}
	for _, n := range r.results {
		r.total.add(n.Result)
	}
}

// tellUnfinished names the collections that a failed restore leaves incomplete.
func (r *Restore) tellUnfinished() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.plan.tasks {
		if l := r.loaders[t.src]; l != nil && !r.results[t.src].whole {
			r.log.Always("%#q is not whole: %d %s went in", t.namespace(), r.results[t.src].Successes, tool.Plural(r.results[t.src].Successes, "document", "documents"))
		}
	}
}

// inOrder returns the tasks in the order they are best done in: the largest first.
func (r *Restore) inOrder() []*task {
	tasks := slices.Clone(r.plan.tasks)
	if !r.o.Original {
		tasks = slices.DeleteFunc(tasks, func(t *task) bool { return t.typ == "view" })
	}
	if r.o.Output.NumParallelCollections > 1 {
		slices.SortStableFunc(tasks, func(a, b *task) int {
			if av, bv := a.typ == "view", b.typ == "view"; av != bv {
				if av {
					return -1
				}
				return 1
			}
			return int(max(-1, min(1, b.size-a.size)))
		})
	}
	return tasks
}

// restoreFiles restores the collections of a directory, several at once.
func (r *Restore) restoreFiles(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan *task)
	var wg sync.WaitGroup
	for range r.o.Output.NumParallelCollections {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for t := range todo {
				if err := r.restoreFile(ctx, t); err != nil && !errors.Is(err, errAbandoned) {
					cancel(fmt.Errorf("%v: %w", t.namespace(), err))
				}
			}
		}()
	}
	for _, t := range r.inOrder() {
		if ctx.Err() != nil {
			break
		}
		todo <- t
	}
	close(todo)
	wg.Wait()
	return context.Cause(ctx)
}

// errAbandoned ends a collection that stopped because of another.
var errAbandoned = errors.New("another collection failed")

// restoreFile restores one collection of a directory.
func (r *Restore) restoreFile(ctx context.Context, t *task) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l, err := r.begin(ctx, t)
	if err != nil {
		return err
	}
	if l == nil {
		return nil // done by the restore that is resumed
	}
	if !t.hasData {
		return r.end(t, l, nil)
	}
	r.log.Always("restoring %#q from %#q", t.db+"."+t.dataColl(r.server), t.location)
	var in *input
	if t.location == "-" {
		in, err = r.openStdin()
	} else {
		var h io.Writer
		if sum, ok := r.expect.file(t.path); ok && sum.SHA256 != "" {
			h = sha256.New()
		}
		in, err = openChecked(t.path, t.form, h)
		if err != nil {
			err = fmt.Errorf("error reading BSON file %#q: %v", t.path, err)
		}
	}
	if err != nil {
		return err
	}
	bar := r.progress.StartBytes(t.namespace(), t.size)
	defer bar.Done()
	sink := &dataSink{r: r, t: t, l: l, bar: bar, in: in, skip: r.state.skip(t)}
	err = readDocuments(in, maxDocument, sink.Documents)
	if err == nil {
		if sum, ok := r.expect.file(t.path); ok {
			if err = in.check(t.path, sum); err != nil {
				_ = l.wait()
			}
		}
	}
	if err == nil {
		err = l.wait()
	} else if r.pool.error() == nil && ctx.Err() == nil {
		err = fmt.Errorf("reading bson input: %w", err)
		_ = l.wait() // what was read is counted
	}
	err = errors.Join(err, in.Close())
	if err != nil && l.abandoned() {
		return r.end(t, l, errAbandoned)
	}
	if err != nil && !errors.Is(err, tool.ErrTerminated) {
		err = fmt.Errorf("error restoring from %v: %w", t.location, err)
	}
	return r.end(t, l, err)
}

// dataSink counts the documents of a task on their way to its loader.
type dataSink struct {
	r    *Restore
	t    *task
	l    *loader
	bar  *tool.Bar
	in   *input // nil in an archive, whose position is not the namespace's
	last int64
	skip int64 // documents that an earlier restore has put in
}

func (s *dataSink) Documents(block []byte) error {
	if s.in != nil {
		pos := s.in.Pos()
		s.bar.Add(pos - s.last)
		s.last = pos
	} else {
		s.bar.Add(int64(len(block)))
	}
	for s.skip > 0 && len(block) > 0 {
		block = block[docSize(block):]
		s.skip--
	}
	return s.l.Documents(block)
}

// begin makes a task's collection and returns its loader; nil if the resumed restore has
// finished it.
func (r *Restore) begin(ctx context.Context, t *task) (*loader, error) {
	if r.alreadyDone(t) {
		return nil, nil
	}
	l := r.loader(t)
	return l, r.makeCollection(ctx, t)
}

// alreadyDone counts a task that the restore which is resumed has finished.
func (r *Restore) alreadyDone(t *task) bool {
	if !r.state.finished(t) {
		return false
	}
	r.log.Always("%#q was restored before", t.namespace())
	res := r.state.result(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[t.src] = &nsResult{Result: res, whole: true}
	return true
}

// loader makes the loader of a task. What a capped collection has dropped at its other
// end cannot be told from what it never had, so one that was begun begins again.
func (r *Restore) loader(t *task) *loader {
	if t.capped() && r.state.begun(t) {
		r.state.forget(t)
		t.again = true
	}
	_, each := r.workers()
	l := r.pool.newLoader(t.db, t.dataColl(r.server), each, r.o.Output.MaintainInsertionOrder || t.capped())
	l.task = t
	l.checkID, l.before = r.state.begun(t), r.state.result(t)
	if t.typ == "timeseries" {
		l.bypass = false
	}
	if r.state != nil {
		l.wrote = func(d Result) { r.state.wrote(t, d) }
	}
	r.mu.Lock()
	r.loaders[t.src] = l
	r.mu.Unlock()
	return l
}

// makeCollection drops and creates a task's collection as told.
func (r *Restore) makeCollection(ctx context.Context, t *task) error {
	there, err := r.exists(ctx, t.db, t.coll)
	if err != nil {
		return fmt.Errorf("error reading database: %w", err)
	}
	drop := r.o.Output.Drop && there
	switch {
	case t.again:
		drop = there
	case r.state.begun(t):
		drop = false
		r.log.Always("going on with %#q after %s", t.namespace(), tool.Count(r.state.skip(t), "document", "documents"))
	case !r.o.Output.Drop && there:
		r.log.Always("restoring to existing collection %#q without dropping", t.namespace())
	case drop && strings.HasPrefix(t.coll, "system."):
		r.log.Always("cannot drop system collection %#q, skipping", t.namespace())
		drop = false
	case drop:
		r.log.Always("dropping collection %#q before restoring", t.namespace())
	case r.o.Output.Drop:
		r.log.Debug("collection %#q doesn't exist, skipping drop command", t.namespace())
	}
	if drop {
		if err := r.drop(ctx, t); err != nil {
			return err
		}
		there = false
	}
	if there {
		r.log.Info("collection %#q already exists - skipping collection create", t.namespace())
	} else {
		if err := r.create(ctx, t); err != nil {
			return fmt.Errorf("error creating collection %v: %w", t.namespace(), err)
		}
		r.setExists(t.db, t.coll, true)
	}
	return r.state.begin(t)
}

func (t *task) capped() bool { return t.meta != nil && lookup(t.meta.Options, "capped") == true }

// end books a task's result and says so.
func (r *Restore) end(t *task, l *loader, err error) error {
	if err != nil {
		l.settle()
	}
	res, fail := l.outcome()
	res.add(l.before)
	if r.o.Original && !r.o.Acknowledged() {
		res = Result{} // the original does not know either
	}
	r.mu.Lock()
	r.results[t.src] = &nsResult{Result: res, failures: fail, whole: err == nil}
	r.mu.Unlock()
	r.log.Always("finished restoring %#q (%d %s, %d %s)", t.namespace(), res.Successes, tool.Plural(res.Successes, "document", "documents"),
		res.Failures, tool.Plural(res.Failures, "failure", "failures"))
	if !r.o.Original {
		r.tellFailures(t, &fail)
	}
	if err != nil {
		return err
	}
	if res.Successes+res.Failures != res.Read && r.o.Acknowledged() {
		return fmt.Errorf("%d documents were read, %d were restored and %d failed: the rest is unaccounted for", res.Read, res.Successes, res.Failures)
	}
	if err := r.checkCount(t, res.Read); err != nil {
		return err
	}
	return r.state.end(t, res)
}

// tellFailures names refused documents by kind, and the first of them.
func (r *Restore) tellFailures(t *task, f *failures) {
	for _, code := range sortedCodes(f.byCode) {
		what := fmt.Sprintf("an error of code %d", code)
		switch code {
		case codeDuplicateKey:
			what = "a duplicate key"
		case codeValidation:
			what = "the validator"
		}
		r.log.Always("%s: %d %s refused because of %s", t.namespace(), f.byCode[code], tool.Plural(f.byCode[code], "document was", "documents were"), what)
	}
	for i, x := range f.first {
		if i == 0 {
			r.log.Always("%s: the first of them:", t.namespace())
		}
		r.log.Always("%s: _id %s: %s", t.namespace(), x.id, x.msg)
	}
}

func sortedCodes(m map[int]int64) []int {
	var out []int
	for c := range m {
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}

// drop drops a task's collection.
func (r *Restore) drop(ctx context.Context, t *task) error {
	err := r.command(ctx, t.db, bson.D{{Key: "drop", Value: t.coll}, {Key: "writeConcern", Value: r.writeConcern()}})
	var ce mongo.CommandError
	if errors.As(err, &ce) && ce.Code == 26 { // it went by itself
		err = nil
	}
	if err != nil {
		return fmt.Errorf("error dropping collection: %w", err)
	}
	r.setExists(t.db, t.coll, false)
	return nil
}

// command runs a command that changes something, and repeats it while the server is not
// to be reached, as long as repeating it does no harm.
func (r *Restore) command(ctx context.Context, db string, cmd bson.D) error {
	until := time.Now().Add(r.o.retryFor())
	for {
		err := r.client.Database(db).RunCommand(ctx, cmd).Err()
		if err == nil || !transient(err) || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		r.log.Info("%s on %s: %v; trying again", cmd[0].Key, db, err)
		t := time.NewTimer(500 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// create makes a task's collection or view.
func (r *Restore) create(ctx context.Context, t *task) error {
	var options bson.D
	how := "with no metadata"
	if t.meta != nil && len(t.meta.Options) > 0 {
		options, how = t.meta.Options, "using options from metadata"
	}
	if lookup(options, "clusteredIndex") == nil && t.typ != "view" {
		// The _id index gets its options with the collection or never.
		if id := r.catalog.byName(t.namespace(), "_id_"); id != nil {
			if !r.o.Output.KeepIndexVersion && !r.o.Output.PreserveUUID {
				id = without(id, "v")
			}
			id = plainV1(without(id, "ns"))
			if !r.server.AtLeast(4, 4, 0) {
				id = append(id, bson.E{Key: "ns", Value: t.namespace()})
			}
			options = append(without(options, "autoIndexId"), bson.E{Key: "idIndex", Value: id})
		}
	}
	if r.o.Output.NoOptionsRestore {
		r.log.Info("not restoring collection options")
		options, how = nil, "with no collection options"
	}
	options = r.autoIndexID(t, without(options, "recordIdsReplicated"))
	r.log.Info("creating collection %#q %s", t.namespace(), how)
	r.log.DebugHigh("using collection options: %s", jsonText(options))
	cmd := append(bson.D{{Key: "create", Value: t.coll}}, options...)
	if t.uuid != "" {
		return r.createWithUUID(ctx, t, cmd)
	}
	cmd = append(cmd, bson.E{Key: "writeConcern", Value: r.writeConcern()})
	err := r.command(ctx, t.db, cmd)
	if err != nil {
		return fmt.Errorf("error running create command: %w", err)
	}
	return nil
}

// autoIndexID drops or changes an option that newer servers refuse.
func (r *Restore) autoIndexID(t *task, options bson.D) bson.D {
	v := lookup(options, "autoIndexId")
	switch {
	case v == nil || !r.server.AtLeast(4, 0, 0):
	case r.server.AtLeast(8, 2, 0):
		r.log.Always("autoIndexId is not allowed in server versions >= 8.2.0. Removing.")
		return without(options, "autoIndexId")
	case v == false && t.db != "local":
		r.log.Always("{autoIndexId: false} is not allowed in server versions >= 4.0. Changing to {autoIndexId: true}.")
		return with(options, "autoIndexId", true)
	}
	return options
}

// createWithUUID makes a collection with the UUID it had, which only applyOps can.
func (r *Restore) createWithUUID(ctx context.Context, t *task, create bson.D) error {
	id, err := hex.DecodeString(strings.ReplaceAll(t.uuid, "-", ""))
	if err != nil {
		return fmt.Errorf("Couldn't restore UUID because UUID was invalid: %s", err) //nolint:staticcheck // the original's text
	}
	op := bson.D{
		{Key: "op", Value: "c"}, {Key: "ns", Value: t.db + ".$cmd"},
		{Key: "o", Value: create}, {Key: "ui", Value: bson.Binary{Subtype: 4, Data: id}},
	}
	if err := r.command(ctx, "admin", bson.D{{Key: "applyOps", Value: bson.A{op}}}); err != nil {
		return fmt.Errorf("applyOps: %w", err)
	}
	return nil
}

// restoreViews makes the views when all collections are there, those that others read
// before those others.
func (r *Restore) restoreViews(ctx context.Context) error {
	for _, t := range orderViews(r.plan.tasks) {
		if err := r.restoreFile(ctx, &task{src: t.src, db: t.db, coll: t.coll, typ: t.typ, meta: t.meta, uuid: t.uuid,
			hasMeta: t.hasMeta, metaLocation: t.metaLocation}); err != nil {
			return fmt.Errorf("%v: %w", t.namespace(), err)
		}
	}
	return nil
}

// orderViews returns the views, each behind the view it reads.
func orderViews(tasks []*task) []*task {
	views := map[string]*task{}
	for _, t := range tasks {
		if t.typ == "view" {
			views[t.namespace()] = t
		}
	}
	var out []*task
	state := map[*task]int{}
	var visit func(t *task)
	visit = func(t *task) {
		if state[t] > 0 {
			return // done, or a circle, which the server refuses
		}
		state[t] = 1
		if on, ok := lookup(t.meta.Options, "viewOn").(string); ok && views[t.db+"."+on] != nil {
			visit(views[t.db+"."+on])
		}
		out = append(out, t)
	}
	for _, t := range tasks {
		if t.typ == "view" {
			visit(t)
		}
	}
	return out
}
