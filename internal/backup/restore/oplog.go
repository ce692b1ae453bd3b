package restore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	driver "go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/replay"
	"github.com/cairndb/cairn/internal/backup/tool"
	"github.com/cairndb/cairn/internal/bson"
)

// oplogRun replays the dump's oplog. Everything that entries do to indexes goes into the
// catalog instead of to the server: the indexes are built when all data are in their
// final state, which is the only one that a unique index has to bear.
type oplogRun struct {
	r     *Restore
	rep   *replay.Replayer
	until bson.Timestamp // the last ts that counts; 0: none
	bar   *tool.Bar
	past  bool

	failed, closed bool
	count          int64 // entries that were read

	// names are the catalog's names of the collections by the source's UUIDs, "" for one
	// that is gone. known says that every collection of the dump has its UUID there, so
	// that one which is not was gone when the data were read.
	names map[bson.UUID]string
	known bool
}

// replayOplog replays the oplog from its file, or from where the archive's was kept.
func (r *Restore) replayOplog(ctx context.Context) error {
	run, err := r.startReplay(ctx, r.plan.oplog)
	if err != nil {
		return err
	}
	t := r.plan.oplog
	in, done, err := r.openTask(t)
	if err != nil {
		run.abandon()
		return err
	}
	err = readDocuments(in, maxDocument, run.documents)
	switch {
	case err == nil:
		err = run.close()
	case run.failed:
		run.abandon()
	default:
		run.abandon()
		err = fmt.Errorf("error reading oplog bson input: %w", err)
	}
	return errors.Join(err, done())
}

// startReplay begins a replay.
func (r *Restore) startReplay(ctx context.Context, t *task) (*oplogRun, error) {
	r.log.Always("replaying oplog")
	o := &oplogRun{r: r, names: map[bson.UUID]string{}, known: true}
	if r.o.Input.OplogLimit != "" {
		limit, err := parseTimestamp(r.o.Input.OplogLimit)
		if err != nil {
			return nil, err
		}
		if n := bson.NewTimestamp(limit.T, limit.I); n > 0 {
			o.until = n - 1 // entries before the limit count
		}
	}
	for _, x := range r.plan.tasks {
		if x.typ == "view" {
			continue
		}
		id, ok := uuidOf(x)
		if !ok && !x.hasMeta && x.size == 0 {
			continue // dropped while the dump began: the oplog drops it
		}
		if !ok {
			o.known = false
			continue
		}
		o.names[id] = x.namespace()
	}
	collections, err := r.targetNames(ctx, o)
	if err != nil {
		return nil, err
	}
	workers := 0 // what suits the target
	if r.o.IsSet("numParallelCollections") {
		workers = r.o.Output.NumParallelCollections
	}
	o.rep, err = replay.New(ctx, replay.Options{Client: r.client, Workers: workers, Rules: r.rules,
		PreserveUUID: r.o.Output.PreserveUUID, Until: o.until, Collections: collections, Validate: !r.o.Output.BypassDocumentValidation, RetryFor: r.o.retryFor()})
	if err != nil {
		return nil, err
	}
	o.bar = r.progress.StartBytes("oplog", t.size)
	return o, nil
}

// uuidOf is the UUID that a collection had on the dumped server.
func uuidOf(t *task) (id bson.UUID, ok bool) {
	if t.meta == nil || t.typ == "timeseries" {
		return id, false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(t.meta.UUID, "-", ""))
	if err != nil || len(b) != len(id) {
		return id, false
	}
	copy(id[:], b)
	return id, true
}

// targetNames returns what the restored collections are called on the target now, nil if
// their UUIDs are not known. A replay that was interrupted may have renamed or dropped
// some, so that the state of a restore that can be resumed keeps the target's UUIDs.
func (r *Restore) targetNames(ctx context.Context, o *oplogRun) (map[bson.UUID]string, error) {
	if !o.known || len(o.names) == 0 {
		return nil, nil
	}
	names := maps.Clone(o.names)
	if r.state == nil {
		return names, nil
	}
	there := map[string]string{} // names by the target's UUIDs
	byName := map[string]string{}
	for _, db := range r.databases() {
		cur, err := r.client.Database(db).ListCollections(ctx, driver.D{})
		if err != nil {
			return nil, err
		}
		for cur.Next(ctx) {
			doc := bson.Raw(cur.Current)
			if id, ok := doc.Path("info.uuid").UUID(); ok {
				ns := db + "." + doc.Get("name").Str()
				there[id.String()], byName[ns] = strings.Clone(ns), id.String()
			}
		}
		if err := errors.Join(cur.Err(), cur.Close(ctx)); err != nil {
			return nil, err
		}
	}
	old, err := r.state.targets(func() map[string]string {
		m := map[string]string{}
		for src, ns := range names {
			m[src.String()] = byName[ns]
		}
		return m
	})
	if err != nil {
		return nil, err
	}
	for src := range names {
		ns := there[old[src.String()]]
		if ns == "" {
			delete(names, src) // the replay has dropped it
			continue
		}
		names[src] = ns
	}
	return names, nil
}

// databases are those that the plan restores into.
func (r *Restore) databases() []string {
	set := map[string]bool{}
	for _, t := range r.plan.tasks {
		set[t.db] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// documents takes entries in order.
func (o *oplogRun) documents(block []byte) error {
	o.bar.Add(int64(len(block)))
	for len(block) > 0 {
		doc := bson.Raw(block[:docSize(block)])
		block = block[len(doc):]
		o.count++
		if o.past {
			continue
		}
		e, err := entry.Parse(doc)
		if err == nil {
			err = o.entry(e)
		}
		if err != nil {
			o.failed = true
			return fmt.Errorf("error applying oplog: %w", err)
		}
	}
	return nil
}

// entry takes out what concerns indexes and gives the rest to the replayer.
func (o *oplogRun) entry(e entry.Entry) error {
	if o.until != 0 && e.OpTime.TS > o.until {
		o.past = true
		o.r.log.Debug("timestamp %d:%d is not below the limit; ending oplog restoration", e.OpTime.TS.Seconds(), e.OpTime.TS.Increment())
		return nil
	}
	if !e.Kind.IsCommand() {
		return o.rep.AddEntry(e)
	}
	if e.Kind.HasOps() {
		return o.list(e)
	}
	out, keep, err := o.command(&e)
	if err != nil || !keep {
		return err
	}
	if out != nil {
		if e, err = entry.Parse(out); err != nil {
			return err
		}
	}
	return o.rep.AddEntry(e)
}

// list is entry for operations that were applied together.
func (o *oplogRun) list(e entry.Entry) error {
	ops, err := e.Ops()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(ops, func(x entry.Entry) bool { return x.Kind.IsCommand() }) {
		return o.rep.AddEntry(e)
	}
	name, _ := e.O.First()
	b := bson.NewBuilder(nil)
	b.Array(name)
	changed := false
	for i := range ops {
		out, keep, err := o.command(&ops[i])
		switch {
		case err != nil:
			return err
		case !keep:
			changed = true
		case out != nil:
			changed = true
			b.AppendDoc("", out)
		default:
			b.AppendDoc("", ops[i].Raw)
		}
	}
	if !changed {
		return o.rep.AddEntry(e)
	}
	b.End()
	first := true
	for k, v := range e.O.Elems() {
		if !first {
			b.Append(k, v)
		}
		first = false
	}
	raw := replaced(e.Raw, "o", b.Finish())
	if e, err = entry.Parse(raw); err != nil {
		return err
	}
	return o.rep.AddEntry(e)
}

// replaced is doc with another document in a field.
func replaced(doc bson.Raw, field string, d bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	for k, v := range doc.Elems() {
		if k == field {
			b.AppendDoc(k, d)
		} else {
			b.Append(k, v)
		}
	}
	return b.Finish()
}

// collection returns the catalog's name of the collection that e names, "" if it is gone
// or not restored.
func (o *oplogRun) collection(e *entry.Entry) string {
	if e.HasUUID() {
		if ns, ok := o.names[e.UUID]; ok {
			return ns
		}
		if o.known {
			return ""
		}
	}
	to, keep := o.r.rules.Namespace(e.Namespace())
	if !keep {
		return ""
	}
	return to
}

// command follows a command in the catalog. keep says whether the replayer gets it; out
// is what it gets instead, nil for the entry itself.
func (o *oplogRun) command(e *entry.Entry) (out bson.Raw, keep bool, err error) {
	c := o.r.catalog
	switch e.Kind {
	case entry.StartIndexBuild, entry.AbortIndexBuild:
		return nil, false, nil
	case entry.CreateIndexes, entry.CommitIndexBuild, entry.DropIndexes:
		ns := o.collection(e)
		if ns == "" || e.Coll == "system.views" {
			return nil, false, nil
		}
		return nil, false, o.indexes(c, ns, e)
	case entry.CollMod:
		mod := e.O.Get("index")
		if mod.IsMissing() {
			return nil, true, nil
		}
		if ns := o.collection(e); ns != "" {
			var d driver.D
			if err := driver.Unmarshal(mod.Doc(), &d); err != nil {
				return nil, false, err
			}
			if err := c.modify(ns, d); err != nil {
				return nil, false, err
			}
		}
		b, n := bson.NewBuilder(nil), 0
		for k, v := range e.O.Elems() {
			if k != "index" {
				b.Append(k, v)
				n++
			}
		}
		return replaced(e.Raw, "o", b.Finish()), n > 1, nil
	case entry.Drop:
		if ns := o.collection(e); ns != "" {
			c.dropCollection(ns)
			if e.HasUUID() {
				o.names[e.UUID] = ""
			}
		}
	case entry.DropDatabase:
		if o.r.rules.Trivial() && !o.known { // else each collection has a drop of its own before
			c.dropDatabase(e.DB)
		}
	case entry.RenameCollection:
		o.rename(c, e)
	case entry.Create:
		o.create(c, e)
	}
	return nil, true, nil
}

// indexes books what an entry does to the indexes of a collection.
func (o *oplogRun) indexes(c *indexCatalog, ns string, e *entry.Entry) error {
	switch e.Kind {
	case entry.DropIndexes:
		v := e.O.Get("index")
		var which any
		switch v.Type {
		case bson.TypeString:
			which = strings.Clone(v.Str())
		case bson.TypeDocument:
			var d driver.D
			if err := driver.Unmarshal(v.Doc(), &d); err != nil {
				return err
			}
			which = d
		}
		return c.drop(ns, which)
	case entry.CommitIndexBuild:
		for v := range e.O.Get("indexes").Doc().Values() {
			var d driver.D
			if err := driver.Unmarshal(v.Doc(), &d); err != nil {
				return err
			}
			c.add(ns, d)
		}
		return nil
	}
	var d driver.D
	if err := driver.Unmarshal(e.O, &d); err != nil {
		return err
	}
	if key, ok := lookup(d, "key").(driver.D); !ok || len(key) == 0 {
		return fmt.Errorf("failed to parse IndexDocument from createIndexes in %#q, %v", e.Coll, jsonText(d))
	}
	c.add(ns, d[1:])
	return nil
}

func (o *oplogRun) rename(c *indexCatalog, e *entry.Entry) {
	from := o.collection(e)
	to, keep := o.r.rules.Namespace(strings.Clone(e.RenameTarget())) // kept longer than the entry
	if victim, ok := e.O.Get("dropTarget").UUID(); ok {
		if ns := o.names[victim]; ns != "" && ns != from {
			c.dropCollection(ns)
			o.names[victim] = ""
		}
	}
	switch {
	case from == "" || from == to:
	case !keep:
		c.dropCollection(from)
	case o.taken(to, e.UUID):
		// What has the name is newer: the metadata are from after the rename.
	default:
		c.rename(from, to)
		if e.HasUUID() {
			o.names[e.UUID] = to
		}
	}
}

// taken says whether another collection of the dump has a name.
func (o *oplogRun) taken(ns string, not bson.UUID) bool {
	for id, n := range o.names {
		if n == ns && id != not {
			return true
		}
	}
	return false
}

func (o *oplogRun) create(c *indexCatalog, e *entry.Entry) {
	to, keep := o.r.rules.Namespace(e.Namespace())
	if !keep || e.O.Has("viewOn") {
		return
	}
	if e.HasUUID() {
		if o.names[e.UUID] != "" {
			return // the metadata are newer
		}
		if o.taken(to, e.UUID) {
			o.names[e.UUID] = ""
			return
		}
		o.names[e.UUID] = to
	}
	locale := e.O.Get("collation").Doc().Get("locale").Str()
	c.setSimple(to, locale == "" || locale == "simple")
}

// close applies what is left.
func (o *oplogRun) close() error {
	defer o.bar.Done()
	o.closed = true
	stats, err := o.rep.Close()
	if err != nil {
		o.failed = true
		return fmt.Errorf("error applying oplog: %w", err)
	}
	if x := o.r.expect; x != nil && x.entries >= 0 && o.r.o.Input.OplogFile == "" && x.entries != o.count {
		return fmt.Errorf("the oplog has %s, the manifest of the dump says %d; --noVerify restores what is there", tool.Count(o.count, "entry", "entries"), x.entries)
	}
	for _, why := range slices.Sorted(maps.Keys(stats.Skipped)) {
		o.r.log.Info("%d oplog operations passed over: %s", stats.Skipped[why], why)
	}
	for _, t := range stats.Unfinished {
		o.r.log.Always("not applied, as the oplog ends before it: %s", t)
	}
	o.r.log.Always("applied %v oplog entries", stats.Applied)
	o.r.oplogDone = true
	o.r.forgetExisting()
	return nil
}

// abandon ends a replay that has failed or is not to go on.
func (o *oplogRun) abandon() {
	if !o.closed {
		o.closed = true
		o.bar.Done()
		_, _ = o.rep.Close() // its error is known, or follows from what is
	}
}

// forgetExisting: which collections there are is asked anew.
func (r *Restore) forgetExisting() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.existing = map[string]map[string]bool{}
}
