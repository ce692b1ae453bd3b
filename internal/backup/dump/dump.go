package dump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/cairndb/cairn/internal/backup/archive"
	"github.com/cairndb/cairn/internal/backup/batch"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// Dump is one run.
type Dump struct {
	opts   *Options
	log    *tool.Log
	prog   *tool.Progress
	stdout io.Writer

	client    *mongo.Client
	dialer    batch.Dialer // of the client's connections
	pref      *readpref.ReadPref
	server    tool.Server
	oneServer bool        // every cursor is on the same server
	noUUIDArg atomic.Bool // the server's find does not take collectionUUID
	filter    bson.D
	method    method
	comp      *compressor
	man       *manager
	files     files
	archive   *archive.Writer
	tail      *tail // nil: the oplog is not followed
	state     *state
	started   time.Time
	result    Result
}

// Result is what a dump came to.
type Result struct {
	Collections int
	Documents   int64
	Bytes       int64 // of documents, before compression
	OplogStart  bson.Timestamp
	OplogEnd    bson.Timestamp
	Entries     int64
	// NotReplayable says why the original mongorestore could not replay the oplog; empty
	// if it can.
	NotReplayable []string
	// Notes are what a reader of the dump should know.
	Notes []string
}

// Run makes the dump that the options ask for. Data for standard output go to stdout.
func Run(ctx context.Context, opts *Options, log *tool.Log, prog *tool.Progress, stdout io.Writer) (Result, error) {
	d := &Dump{opts: opts, log: log, prog: prog, stdout: stdout, method: opts.method(), man: newManager(), started: time.Now()}
	if err := d.init(ctx); err != nil {
		return d.result, err
	}
	defer func() {
		// The server may be gone; the process ends soon.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = d.client.Disconnect(end)
	}()
	err := d.dump(ctx)
	return d.result, err
}

// init connects and checks that the options go together, in the original's order.
func (d *Dump) init(ctx context.Context) error {
	o := d.opts
	var err error
	if d.pref, err = tool.ReadPreference(o.Input.ReadPreference, o.ConnString); err != nil {
		return fmt.Errorf("error parsing --readPreference : %v", err)
	}
	o.ReadPreference = d.pref
	if !o.Original { // no server is needed to see this
		if err := o.validate(false); err != nil {
			return fmt.Errorf("bad option: %v", err)
		}
	}
	o.Dialer = &d.dialer
	if d.client, err = o.Connect(ctx); err != nil {
		return fmt.Errorf("can't create session: %w", err)
	}
	fail := func(err error) error {
		_ = d.client.Disconnect(context.WithoutCancel(ctx))
		return err
	}
	if d.server, err = tool.Facts(ctx, d.client); err != nil {
		return fail(fmt.Errorf("error checking for Mongos: %v", err))
	}
	if d.server.Atlas {
		d.log.Debug("dumping from a MongoDB Atlas free or shared cluster")
	}
	if err := o.validate(d.server.Atlas); err != nil {
		return fail(fmt.Errorf("bad option: %v", err))
	}
	if d.server.Mongos && o.Output.Oplog {
		return fail(errors.New("can't use --oplog option when dumping from a mongos"))
	}
	if d.server.Mongos && d.pref.Mode() != readpref.PrimaryMode {
		d.log.Always("Warning: using a non-primary readPreference with a connection to mongos may produce inconsistent duplicates or miss some documents.")
	}
	d.oneServer = o.Direct && len(o.ConnString.Hosts) == 1 && !d.server.Mongos
	return nil
}

// cleanup takes back what has no name yet, unless the dump is to be resumed.
func (d *Dump) cleanup() {
	if d.state != nil {
		d.state.close()
		return
	}
	for _, f := range d.files.list {
		_ = f.Abort() // it has no name: what is left of it is garbage at most
	}
}

// dump runs the phases: initialise, metadata with users and roles, collections, oplog.
func (d *Dump) dump(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &d.opts.Output
	if !out.Oplog {
		if err := waitForBarrier(ctx, d.opts.Input.WritesDone); err != nil {
			return err
		}
	}
	if there, err := d.collectionExists(ctx); err != nil {
		return fmt.Errorf("error verifying collection info: %w", err)
	} else if !there {
		d.log.Always("namespace with DB %#q and collection %#q does not exist", d.opts.Namespace.DB, d.opts.Namespace.Collection)
		return nil
	}
	if err := d.parseQuery(); err != nil {
		return err
	}
	if out.UsersAndRoles {
		if err := d.checkAuthSchema(ctx); err != nil {
			return err
		}
	}
	if d.server.VersionString == "unknown" {
		d.log.Always("warning, couldn't get version information from server")
	}
	if d.method != methodNone {
		d.comp = newCompressor(d.method, runtime.GOMAXPROCS(0))
		defer d.comp.close()
	}
	defer func() {
		if err != nil {
			d.cleanup()
		}
	}()
	var arch *archiveOut
	if out.Archive != "" {
		if arch, err = d.openArchive(); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				arch.abort()
			}
		}()
		d.archive = archive.NewWriter(arch)
	}
	if d.opts.Beyond.Resume {
		if d.state, err = openState(d); err != nil {
			return err
		}
	}
	oplog, err := d.startOplog(ctx, cancel)
	if err != nil {
		return err
	}
	defer oplog.abort()
	if err := d.createIntents(ctx); err != nil {
		return fmt.Errorf("error creating intents to dump: %w", err)
	}
	for _, i := range d.state.kept() {
		d.man.put(i)
	}
	if out.Oplog {
		d.man.put(&intent{coll: "oplog", hasData: true})
	}
	if out.UsersAndRoles && d.opts.Namespace.DB != "admin" {
		d.createUsersIntents(d.opts.Namespace.DB)
	}
	if err := d.phases(ctx, oplog); err != nil {
		return err
	}
	return d.complete(arch)
}

// phases writes everything there is.
func (d *Dump) phases(ctx context.Context, oplog oplogPart) error {
	d.log.DebugHigh("dump phase I: metadata, indexes, users, roles, version")
	if err := d.dumpMetadata(ctx); err != nil {
		return fmt.Errorf("error dumping metadata: %w", err)
	}
	if err := d.dumpUsers(ctx); err != nil {
		return fmt.Errorf("error dumping users and roles: %w", err)
	}
	d.log.DebugHigh("dump phase II: regular collections")
	if err := d.dumpCollections(ctx); err != nil {
		return err
	}
	d.log.Debug("dump phase III: the oplog")
	if d.opts.Output.Oplog {
		if err := waitForBarrier(ctx, d.opts.Input.WritesDone); err != nil {
			return err
		}
	}
	return oplog.finish(ctx)
}

// complete checks what was done and gives the files their names, the one that says that
// the dump is whole last.
func (d *Dump) complete(arch *archiveOut) error {
	for _, i := range d.man.all() {
		if i.hasData && !i.done && !i.dropped {
			return fmt.Errorf("the dump is not whole: %#q was not written", i.dataNamespace())
		}
		d.result.Documents += i.docs
		if i.hasData && i.db != "" && (!i.isView() || d.opts.Output.ViewsAsCollections) {
			d.result.Collections++
		}
	}
	switch {
	case arch != nil:
		if err := d.archive.Close(); err != nil {
			return fmt.Errorf("archive writer: %w", err)
		}
		if err := arch.finish(); err != nil {
			return fmt.Errorf("archive writer: %w", err)
		}
		if d.opts.Beyond.Manifest {
			d.files.info = append(d.files.info, stored{Path: arch.path, Size: arch.out.n, SHA256: arch.out.sum()})
			if err := d.writeManifest(arch.path + ".manifest.json"); err != nil {
				return err
			}
		}
	case d.opts.Output.Out != "-":
		d.log.Debug("dump phase IV: top level metadata json")
		if err := d.publish(); err != nil {
			return err
		}
	}
	d.log.Debug("finishing dump")
	d.report()
	return nil
}

// publish names the files of a directory.
func (d *Dump) publish() error {
	dir := d.opts.root()
	if d.opts.Namespace.DB != "" {
		dir = filepath.Join(dir, d.opts.Namespace.DB)
	}
	prelude := fmt.Sprintf(`{"ServerVersion":%q,"ToolVersion":%q}`, d.server.VersionString, tool.OriginalVersion)
	path := filepath.Join(dir, "prelude.json"+d.method.suffix())
	if _, err := os.Stat(dir); err == nil {
		if err := d.writeFile(path, []byte(prelude)); err != nil {
			return fmt.Errorf("failed to dump top level metadata: %w", err)
		}
	}
	if err := tool.Publish(d.files.list...); err != nil {
		return err
	}
	if d.opts.Beyond.Manifest && len(d.files.list) > 0 {
		if err := d.writeManifest(filepath.Join(d.opts.root(), "manifest.json")); err != nil {
			return err
		}
	}
	return d.state.remove()
}

// writeFile makes a small file of the directory form, compressed as the dump is.
func (d *Dump) writeFile(path string, content []byte) error {
	w, err := d.create(path, "metadata", d.method != methodNone)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		w.abort()
		return err
	}
	return w.finish()
}

// report says what a user of the dump must know.
func (d *Dump) report() {
	if d.opts.Original {
		return
	}
	for _, n := range d.result.Notes {
		d.log.Always("note: %s", n)
	}
	for _, why := range d.result.NotReplayable {
		d.log.Always("note: the original mongorestore could not replay the oplog of this dump (%s); cairn restore can", why)
	}
	d.log.Always("dump is whole: %d %s in %d %s%s", d.result.Documents-d.result.Entries, tool.Plural(d.result.Documents-d.result.Entries, "document", "documents"),
		d.result.Collections, tool.Plural(int64(d.result.Collections), "collection", "collections"), d.oplogReport())
}

func (d *Dump) oplogReport() string {
	if !d.opts.Output.Oplog {
		return ""
	}
	return fmt.Sprintf(", and the oplog from %d:%d to %d:%d", d.result.OplogStart.T, d.result.OplogStart.I, d.result.OplogEnd.T, d.result.OplogEnd.I)
}

// note keeps a sentence for the end and the manifest.
func (d *Dump) note(format string, args ...any) {
	d.files.mu.Lock()
	defer d.files.mu.Unlock()
	d.result.Notes = append(d.result.Notes, fmt.Sprintf(format, args...))
}

// collectionExists looks for the collection the options name.
func (d *Dump) collectionExists(ctx context.Context) (bool, error) {
	if d.opts.Namespace.Collection == "" {
		return true, nil
	}
	ci, err := d.collectionInfo(ctx, d.opts.Namespace.DB, d.opts.Namespace.Collection)
	return ci != nil, err
}

func (d *Dump) parseQuery() error {
	text, err := d.opts.query()
	if err != nil || text == nil {
		return err
	}
	if err := bson.UnmarshalExtJSON(text, false, &d.filter); err != nil {
		return fmt.Errorf("error parsing query as Extended JSON: %v", err)
	}
	return nil
}

// filterFor is the filter of one collection; that of a time-series collection goes to its
// buckets, which only the meta field can be asked of.
func (d *Dump) filterFor(i *intent) (any, error) {
	if len(d.filter) == 0 {
		return nil, nil
	}
	if !i.isTimeseries() {
		return d.filter, nil
	}
	ts, ok := i.options.Lookup("timeseries").DocumentOK()
	if !ok {
		return nil, fmt.Errorf("could not find timeseries options for %#q: no such field", i.namespace())
	}
	meta, ok := ts.Lookup("metaField").StringValueOK()
	if !ok {
		return nil, fmt.Errorf("could not determine the metaField for %#q: no such field", i.namespace())
	}
	var out bson.D
	for _, e := range d.filter {
		head, rest, dotted := strings.Cut(e.Key, ".")
		if head != meta {
			return nil, fmt.Errorf("cannot process query %v for timeseries collection %#q. "+
				"mongodump only processes queries on metadata fields for timeseries collections.", d.filter, i.namespace()) //nolint:staticcheck // the original's text
		}
		key := "meta"
		if dotted {
			key += "." + rest
		}
		out = append(out, bson.E{Key: key, Value: e.Value})
	}
	return out, nil
}

// dumpMetadata reads all metadata; the directory form writes them, the archive form puts
// them into the prelude.
func (d *Dump) dumpMetadata(ctx context.Context) error {
	if d.opts.Output.Out == "-" {
		return nil
	}
	var wanted []*intent
	for _, i := range d.man.all() {
		if i.db != "" && !strings.HasPrefix(i.coll, "$admin.") && !d.state.has(i) {
			wanted = append(wanted, i)
		}
	}
	err := d.each(ctx, len(wanted), func(ctx context.Context, n int) error {
		i := wanted[n]
		if err := d.readMetadata(ctx, i); err != nil {
			return err
		}
		if i.meta != nil && d.archive == nil {
			if err := d.writeFile(d.metaPath(i), i.meta); err != nil {
				return fmt.Errorf("error writing metadata for collection %#q to disk: %w", i.namespace(), err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if d.archive == nil {
		return nil
	}
	p := &archive.Prelude{Header: archive.Header{ConcurrentCollections: int32(d.opts.Output.Parallel), Version: archive.FormatVersion,
		ServerVersion: d.server.VersionString, ToolVersion: tool.OriginalVersion}, Seal: !d.opts.Original}
	for _, i := range d.man.all() {
		p.Collections = append(p.Collections, archive.CollectionMetadata{DB: i.db, Collection: i.coll, Metadata: string(i.meta), Type: i.kind})
		d.log.Info("archive prelude %#q", i.namespace())
	}
	if err := d.archive.WritePrelude(p); err != nil {
		return fmt.Errorf("error writing metadata into archive: %w", err)
	}
	return nil
}

// each does n small things, as many at once as collections are copied at once: each waits
// for the server, or for the disk. The first error ends it.
func (d *Dump) each(ctx context.Context, n int, do func(ctx context.Context, n int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, d.opts.Output.Parallel) {
		wg.Go(func() {
			for ctx.Err() == nil {
				k := int(next.Add(1)) - 1
				if k >= n {
					return
				}
				if err := do(ctx, k); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (d *Dump) metaPath(i *intent) string {
	return d.path(i.db, i.coll) + ".metadata.json" + d.method.suffix()
}

// dumpUsers writes users, roles and the version of their schema: those of the whole
// server with the admin database, those of one database if they are asked for.
func (d *Dump) dumpUsers(ctx context.Context) error {
	if d.server.Atlas {
		return nil
	}
	db := d.opts.Namespace.DB
	if db == "admin" || db == "" {
		for _, i := range []*intent{d.man.users, d.man.roles, d.man.version} {
			if i != nil {
				if err := d.dumpIntent(ctx, i); err != nil {
					return err
				}
			}
		}
	}
	if !d.opts.Output.UsersAndRoles {
		return nil
	}
	d.log.Always("dumping users and roles for %#q", db)
	if db == "admin" {
		d.log.Always("skipping users/roles dump, already dumped admin database")
		return nil
	}
	ofDB := bson.D{{Key: "db", Value: db}}
	for _, p := range []struct {
		i      *intent
		coll   string
		what   string
		filter any
	}{
		{d.man.users, "system.users", "users", ofDB},
		{d.man.roles, "system.roles", "roles", ofDB},
		{d.man.version, "system.version", "auth version", nil},
	} {
		s := &scan{d: d, i: p.i, db: "admin", coll: p.coll, filter: p.filter}
		if err := d.copyScans(ctx, p.i, []*scan{s}); err != nil {
			return fmt.Errorf("error dumping db %s: %w", p.what, err)
		}
	}
	return nil
}

// dumpCollections runs the workers.
func (d *Dump) dumpCollections(ctx context.Context) error {
	jobs := min(d.opts.Output.Parallel, len(d.man.all()))
	d.man.start(jobs > 1)
	d.log.Info("dumping up to %v collections in parallel", jobs)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for id := range jobs {
		wg.Go(func() {
			d.log.DebugHigh("starting dump routine with id=%v", id)
			for i := d.man.pop(); i != nil && ctx.Err() == nil; i = d.man.pop() {
				if !i.hasData {
					continue
				}
				if err := d.dumpIntent(ctx, i); err != nil {
					cancel(err) // the first one counts
					return
				}
			}
			d.log.DebugHigh("ending dump routine with id=%v, no more work to do", id)
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// dumpIntent copies one collection, with its lines in the log.
func (d *Dump) dumpIntent(ctx context.Context, i *intent) error {
	if d.state.take(i) {
		d.log.Always("keeping %#q (%d %s), written before the dump was interrupted", i.dataNamespace(), i.docs, tool.Plural(i.docs, "document", "documents"))
		return nil
	}
	filter, err := d.filterFor(i)
	if err != nil {
		return err
	}
	toStdout := d.opts.Output.Out == "-"
	if toStdout {
		d.log.Always("writing %#q to stdout", i.dataNamespace())
	} else {
		d.log.Always("writing %#q to %#q", i.dataNamespace(), i.location)
	}
	scans := []*scan{{d: d, i: i, db: i.db, coll: i.liveColl(), filter: filter, view: i.isView()}}
	if i.phantom || i.isView() && !d.opts.Output.ViewsAsCollections {
		scans = nil // an archive has an empty namespace for a view
	} else if filter == nil && d.opts.Beyond.ParallelIn > 1 {
		if scans, err = d.split(ctx, i, scans[0]); err != nil {
			return err
		}
	}
	if err := d.copyScans(ctx, i, scans); err != nil {
		return err
	}
	docs := tool.Plural(i.docs, "document", "documents")
	if toStdout {
		d.log.Always("dumped %v %v", i.docs, docs)
	} else {
		d.log.Always("done dumping %#q (%v %v)", i.dataNamespace(), i.docs, docs)
	}
	return d.state.done(i)
}

// copyScans writes what the scans read. Readers and the writer work side by side.
func (d *Dump) copyScans(ctx context.Context, i *intent, scans []*scan) error {
	w, err := d.sink(i)
	if err != nil {
		return err
	}
	wrap := func(err error) error {
		return fmt.Errorf("error writing data for collection %#q to disk: %w", i.namespace(), err)
	}
	bar := d.prog.Start(i.namespace(), d.expect(ctx, i, scans))
	defer bar.Done()
	bytesWritten, err := d.pump(ctx, i, scans, w, bar)
	if err != nil {
		w.abort()
		return wrap(err)
	}
	gone := len(scans) > 0 && scans[0].gone
	for _, s := range scans {
		if s.gone != gone {
			w.abort()
			return wrap(errors.New("the collection was replaced while it was read"))
		}
	}
	if gone {
		i.dropped = true
		d.log.Always("the collection %#q appears to have been dropped after the dump started", i.namespace())
		if d.tail == nil && d.archive == nil {
			// Half of a collection must not look like one.
			w.abort()
			d.files.forget(d.metaPath(i))
			i.docs = 0
			d.note("%#q was dropped while it was read, and is not in the dump", i.namespace())
			return nil
		}
		d.note("%#q was dropped while it was read: %s of it in the dump", i.namespace(), tool.Count(i.docs, "document is", "documents are"))
	}
	if err := w.finish(); err != nil {
		return wrap(err)
	}
	d.files.mu.Lock()
	d.result.Bytes += bytesWritten
	d.files.mu.Unlock()
	i.done = true
	return nil
}

// expect is the number of documents for the progress, 0 if it is not known.
func (d *Dump) expect(ctx context.Context, i *intent, scans []*scan) int64 {
	if len(scans) == 0 || scans[0].filter != nil || scans[0].view {
		return 0
	}
	if i.size > 0 && !d.opts.Original {
		return i.size
	}
	n, err := d.estimate(ctx, scans[0].db, scans[0].coll)
	if err != nil {
		return 0
	}
	return n
}

// pump moves chunks from the readers to the writer and compares their counts.
func (d *Dump) pump(ctx context.Context, i *intent, scans []*scan, w sink, bar *tool.Bar) (int64, error) {
	if len(scans) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chunks := make(chan *chunk)
	var readers sync.WaitGroup
	for _, s := range scans {
		s.out = chunks
		readers.Go(func() {
			if err := s.run(ctx); err != nil {
				cancel(fmt.Errorf("error reading collection: %w", err))
			}
		})
	}
	go func() {
		readers.Wait()
		close(chunks)
	}()
	var docs, size int64
	for c := range chunks {
		if ctx.Err() == nil {
			if _, err := w.Write(c.buf); err != nil {
				cancel(fmt.Errorf("error writing to file: %w", err))
			}
			docs += c.docs
			size += int64(len(c.buf))
			bar.Add(c.docs)
		}
		c.release()
	}
	if err := context.Cause(ctx); err != nil {
		return size, err
	}
	var read int64
	for _, s := range scans {
		read += s.sent
	}
	if read != docs {
		return size, fmt.Errorf("%d documents were read, %d were written", read, docs)
	}
	i.docs = docs
	return size, nil
}

// waitForBarrier waits until a file exists.
func waitForBarrier(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("failed to open barrier file %#q: %w", path, err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
