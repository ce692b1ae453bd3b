package restore

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/cairndb/cairn/internal/backup/archive"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/replay"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// Restore is one run of the tool.
type Restore struct {
	o        *Options
	log      *tool.Log
	progress *tool.Progress
	client   *mongo.Client
	server   tool.Server
	rules    *entry.Rules
	plan     *plan
	catalog  *indexCatalog
	pool     *pool
	sessions *sessions
	state    *state
	expect   *expectation // what a manifest says, nil without one

	archive  *archive.Reader
	in       *input           // of the archive
	specials map[*task]*spool // users, roles and their version, out of the archive

	authChecked, usersDone, oplogDone bool

	mu       sync.Mutex
	existing map[string]map[string]bool // collections of the server by database
	loaders  map[string]*loader
	results  map[string]*nsResult
	total    Result
}

// nsResult is what is said of a namespace at the end.
type nsResult struct {
	Result
	failures failures
	whole    bool // all there was is dealt with
}

// New makes a run against a connected server. progress may be nil.
func New(o *Options, client *mongo.Client, server tool.Server, log *tool.Log, progress *tool.Progress) *Restore {
	return &Restore{o: o, client: client, server: server, log: log, progress: progress, sessions: &sessions{client: client}, catalog: newIndexCatalog(),
		existing: map[string]map[string]bool{}, results: map[string]*nsResult{}, loaders: map[string]*loader{}}
}

// Run restores. The Result is right even with an error: it counts what happened until then.
func (r *Restore) Run(ctx context.Context) (Result, error) {
	err := r.run(ctx)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause // what was under way failed because of it
	}
	r.sessions.end(ctx)
	for _, s := range r.specials {
		err = errors.Join(err, s.close())
	}
	if r.in != nil {
		err = errors.Join(err, r.in.Close())
	}
	if r.state != nil {
		err = errors.Join(err, r.state.close(err == nil))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total, err
}

func (r *Restore) run(ctx context.Context) error {
	if err := r.o.validate(r.server.Atlas, r.log); err != nil {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if r.o.Output.DryRun {
		if !r.o.Original {
			if err := r.readMetadata(); err != nil {
				return fmt.Errorf("restore error: %v", err)
			}
			if err := r.printPlan(ctx); err != nil {
				return err
			}
		}
		r.log.Always("dry run completed")
		return nil
	}
	// In an archive the special collections come first, so the auth version can only be
	// looked at in its place; of a directory it is looked at before anything is changed.
	if r.archive == nil {
		if err := r.checkAuthVersions(ctx, nil); err != nil {
			return err
		}
	}
	for _, f := range []func() error{r.loadManifest, r.readSystemIndexes, r.readMetadata, r.openState, func() error { return r.awaitEarlier(ctx) }, func() error { return r.preflight(ctx) }} {
		if err := f(); err != nil {
			return fmt.Errorf("restore error: %w", err)
		}
	}
	if err := r.restoreData(ctx); err != nil {
		return err
	}
	if err := r.verify(); err != nil {
		return err
	}
	return r.finishUp(ctx)
}

// prepare reads what there is to restore and decides what goes where.
func (r *Restore) prepare(ctx context.Context) error {
	var err error
	if r.rules, err = rulesOf(r.o); err != nil {
		return err
	}
	s := &scanner{o: r.o, rules: r.rules, log: r.log, p: newPlan()}
	r.plan = s.p
	if r.o.Input.Archive != "" {
		if err := r.openArchive(); err != nil {
			return err
		}
	}
	if err := r.scan(s); err != nil {
		return err
	}
	p := r.plan
	if r.server.Mongos && r.o.Namespace.DB == "" && slices.ContainsFunc(p.tasks, func(t *task) bool { return t.db == "config" }) {
		return errors.New("cannot do a full restore on a sharded system - remove the 'config' directory from the dump directory first")
	}
	if r.o.Input.RestoreDBUsersAndRoles && p.users == nil && p.roles == nil {
		return errors.New("No users or roles found in restore target. Please omit --restoreDbUsersAndRoles, or use a dump created with --dumpDbUsersAndRoles.") //nolint:staticcheck // the original's text
	}
	if r.o.Input.OplogFile != "" {
		if err := s.oplogFile(r.o.Input.OplogFile); err != nil {
			return fmt.Errorf("error reading oplog file: %v", err)
		}
	}
	if r.o.Input.OplogReplay && p.oplog == nil {
		return errors.New("no oplog file to replay; make sure you run mongodump with --oplog")
	}
	if r.o.Input.OplogReplay && !r.o.Original {
		if err := replay.Check(ctx, r.client); err != nil {
			return fmt.Errorf("--oplogReplay: %w", err)
		}
	}
	if p.conflict {
		return errors.New("cannot provide both an oplog.bson file and an oplog file with --oplogFile, " +
			"nor can you provide both a local/oplog.rs.bson and a local/oplog.$main.bson file")
	}
	if lines := p.conflicts(); len(lines) > 0 {
		for _, l := range lines {
			r.log.Always("%s", l)
		}
		return errors.New("cannot restore with conflicting namespace destinations")
	}
	r.settleWorkers()
	return nil
}

// scan finds the tasks.
func (r *Restore) scan(s *scanner) error {
	wrap := func(err error) error {
		if err != nil {
			return fmt.Errorf("error scanning filesystem: %v", err)
		}
		return nil
	}
	if r.o.Input.Archive != "" {
		r.log.Always("preparing collections to restore from")
		return wrap(s.archive(r.archive.Prelude()))
	}
	ns := &r.o.Namespace
	if r.o.Target == "-" {
		r.log.Always("setting up a collection to be read from standard input")
		s.stdin(ns.DB, ns.Collection)
		return nil
	}
	if r.o.Target == "" {
		r.o.Target = "dump"
		r.log.Always("using default 'dump' directory")
		if _, err := os.Stat(r.o.Target); err != nil {
			r.log.Always("try '%s --help' for more information", r.o.Config.Name)
		}
	}
	target := filepath.Clean(r.o.Target)
	fi, err := os.Stat(target)
	if err != nil {
		return fmt.Errorf("mongorestore target '%v' invalid: %v", r.o.Target, err)
	}
	if err := r.readPreludeFile(target, fi.IsDir()); err != nil {
		return fmt.Errorf("error reading dump metadata: %w", err)
	}
	if !fi.IsDir() {
		if err := s.fromFile(target); err != nil {
			return err
		}
	}
	switch {
	case ns.DB != "" && ns.Collection == "":
		r.log.Always("building a list of collections to restore from %#q dir", target)
		r.plan.dumpDir = filepath.Dir(target)
		if err := s.database(ns.DB, target); err != nil {
			return wrap(err)
		}
		s.settleOplog()
		return nil
	case ns.DB != "":
		r.log.Always("checking for collection data in %#q", target)
		if s.rules, err = rulesOf(r.o); err != nil { // -d and -c may just have been told from the file
			return err
		}
		r.rules = s.rules
		return wrap(s.oneFile(ns.DB, ns.Collection, target))
	}
	r.log.Always("preparing collections to restore from")
	r.plan.dumpDir = target
	return wrap(s.root(target))
}

// settleWorkers decides how many collections and inserts there are at once.
func (r *Restore) settleWorkers() {
	out := &r.o.Output
	if r.o.Namespace.Collection != "" && out.NumParallelCollections > 1 && out.NumInsertionWorkers == 1 && !out.MaintainInsertionOrder {
		out.NumInsertionWorkers = out.NumParallelCollections
		r.o.workersSet = true
	}
	if r.archive != nil {
		if n := int(r.archive.Prelude().ConcurrentCollections); n > out.NumParallelCollections {
			out.NumParallelCollections = min(n, maxParallel)
			r.log.Always("setting number of parallel collections to number of parallel collections in archive (%v)", n)
		}
	}
	out.NumParallelCollections = max(1, out.NumParallelCollections)
	out.NumInsertionWorkers = max(1, out.NumInsertionWorkers)
}

// maxParallel bounds what an archive may ask for: its number is only a wish.
const maxParallel = 256

// workers returns the number of inserts at once, in all and for one collection.
func (r *Restore) workers() (all, each int) {
	out := &r.o.Output
	switch {
	case r.o.workersSet && r.o.Namespace.Collection != "":
		return out.NumInsertionWorkers, out.NumInsertionWorkers
	case r.o.Original || r.o.workersSet:
		return min(out.NumParallelCollections*out.NumInsertionWorkers, maxParallel), out.NumInsertionWorkers
	}
	n := max(out.NumParallelCollections, min(runtime.GOMAXPROCS(0), 8))
	return n, n
}

// openArchive opens the archive and reads its prelude.
func (r *Restore) openArchive() error {
	path := r.o.Input.Archive
	var err error
	switch {
	case path == "-":
		r.in, err = r.openStdin()
	default:
		fi, serr := os.Stat(path)
		if serr != nil {
			return serr
		}
		if fi.IsDir() {
			path = filepath.Join(path, "archive")
			if r.o.Input.Gzip {
				path += ".gz"
			}
		}
		r.in, err = r.openArchiveFile(path)
	}
	if err != nil {
		return err
	}
	if r.archive, err = archive.NewReader(r.in); err != nil {
		var fe *archive.FormatError
		if r.o.Original && errors.As(err, &fe) && errors.Is(err, archive.ErrNotArchive) {
			return archive.ErrNotArchive
		}
		return err
	}
	a := r.archive.Prelude()
	r.log.Debug("archive format version %#q", a.Version)
	r.log.Debug("archive server version %#q", a.ServerVersion)
	r.log.Debug("archive tool version %#q", a.ToolVersion)
	r.plan.dumpFrom = versionOf(a.ServerVersion).Version
	d, s := r.plan.dumpFrom, r.server.Version
	if r.o.Original && (d[0] != s[0] || d[1] != s[1]) {
		r.log.Always("WARNING: This archive came from MongoDB %#q, but you are restoring to %#q. Cross-version dump & restore is unsupported. The restored data may be corrupted.",
			a.ServerVersion, r.server.VersionString)
	}
	return nil
}

// openArchiveFile opens an archive whose packing is told from its first bytes, or, as the
// original, from --gzip.
func (r *Restore) openArchiveFile(path string) (*input, error) {
	if r.o.Original {
		f := plain
		if r.o.Input.Gzip {
			f = gzipped
		}
		return openFile(path, f)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var h io.Writer
	if _, err := os.Stat(path + "." + manifestName); err == nil && !r.o.Own.NoVerify {
		h = sha256.New()
	}
	in, err := openStream(file, false, h)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	in.close = append([]func() error{file.Close}, in.close...)
	return in, nil
}

func (r *Restore) openStdin() (*input, error) {
	if r.o.Original || r.o.Input.Gzip {
		in := &input{}
		f := plain
		if r.o.Input.Gzip {
			f = gzipped
		}
		return in, in.unpack(counter{r.o.Stdin, in}, f)
	}
	return openStream(r.o.Stdin, r.o.Input.Archive == "", nil)
}

// readPreludeFile reads the prelude.json of a dump directory, which lies in the target or
// one above it. It may be missing.
func (r *Restore) readPreludeFile(target string, dir bool) error {
	if !dir {
		target = filepath.Dir(target)
	}
	for _, d := range []string{target, filepath.Dir(target)} {
		for _, x := range suffixesFrom(plain) {
			if r.o.Original && (x.form == gzipped) != r.o.Input.Gzip {
				continue
			}
			path := filepath.Join(d, "prelude.json"+x.ext)
			in, err := openFile(path, x.form)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("error opening file %#q: %w", path, err)
			}
			text, err := io.ReadAll(in)
			if err = errors.Join(err, in.Close()); err != nil {
				return fmt.Errorf("failed to read prelude metadata from %#q: %w", path, err)
			}
			var prelude struct{ ServerVersion string }
			if err := json.Unmarshal(text, &prelude); err != nil {
				return fmt.Errorf("failed to unmarshal prelude metadata from %#q: %w", path, err)
			}
			if prelude.ServerVersion == "" {
				return fmt.Errorf("ServerVersion key not found in %#q", path)
			}
			if prelude.ServerVersion == "unknown" {
				r.log.Info("ServerVersion is 'unknown' in %#q", path)
				return nil
			}
			if r.plan.dumpFrom, err = tool.ParseVersion(prelude.ServerVersion); err != nil {
				return fmt.Errorf("failed to parse server version from %#q: %w", path, err)
			}
			r.log.Info("successfully parsed prelude metadata from %#q", path)
			return nil
		}
	}
	r.log.Debug("no prelude metadata found in target directory or parent, skipping")
	return nil
}

// readSystemIndexes reads the indexes of dumps that have no metadata files.
func (r *Restore) readSystemIndexes() error {
	if r.archive != nil {
		return nil // they come with the data, and archives are younger than metadata files
	}
	for _, t := range r.plan.indexes {
		in, err := openFile(t.path, t.form)
		if err != nil {
			return err
		}
		err = readDocuments(in, maxDocument, func(block []byte) error {
			for len(block) > 0 {
				var spec bson.D
				doc := block[:docSize(block)]
				block = block[len(doc):]
				if err := bson.Unmarshal(doc, &spec); err != nil {
					return err
				}
				ns, ok := lookup(spec, "ns").(string)
				if !ok {
					return errors.New("an index names no collection")
				}
				_, coll := tool.SplitNamespace(ns)
				if x := r.plan.bySource[t.db+"."+coll]; x != nil && !x.hasMeta {
					r.log.Always("no metadata; falling back to system.indexes")
					r.catalog.add(x.namespace(), spec)
				}
			}
			return nil
		})
		if err = errors.Join(err, in.Close()); err != nil {
			return fmt.Errorf("error scanning system.indexes: %v", err)
		}
	}
	return nil
}

// readMetadata reads the metadata of all collections.
func (r *Restore) readMetadata() error {
	for _, t := range r.plan.tasks {
		if !t.hasMeta {
			continue
		}
		r.say("reading metadata for %#q from %#q", t.namespace(), t.metaLocation)
		if err := r.checkMetadataSum(t); err != nil {
			return err
		}
		text, err := t.metadata()
		if err != nil {
			return fmt.Errorf("error reading metadata from %v: %v", t.metaLocation, err)
		}
		m, err := ParseMetadata(text)
		if err != nil {
			return fmt.Errorf("error parsing metadata from %v: %v", t.metaLocation, err)
		}
		if m == nil {
			continue
		}
		t.meta = m
		switch {
		case m.timeseries():
			t.typ = "timeseries"
		case m.view():
			t.typ = "view"
		}
		r.catalog.set(t.namespace(), m.Indexes, m.simpleCollation())
		if r.o.Output.PreserveUUID {
			if m.UUID == "" {
				r.log.Always("--preserveUUID used but no UUID found in %#q, generating new UUID for %#q", t.metaLocation, t.namespace())
			}
			t.uuid = m.UUID
		}
	}
	return nil
}

// say is a line of the original that `cairn restore` has for -v only.
func (r *Restore) say(format string, args ...any) {
	if r.o.Original {
		r.log.Always(format, args...)
		return
	}
	r.log.Info(format, args...)
}

// preflight refuses what cannot succeed before anything is changed.
func (r *Restore) preflight(ctx context.Context) error {
	for _, t := range r.plan.tasks {
		if t.typ != "timeseries" {
			continue
		}
		if !r.o.Output.Drop && (r.state == nil || !r.state.resumed) {
			for _, x := range []struct{ coll, msg string }{
				{t.coll, "timeseries collection %#q already exists on the destination. You must remove this collection from the destination or use --drop"},
				{t.dataColl(r.server), "system.buckets collection %#q already exists on the destination. You must remove this collection from the destination in order to restore " + t.namespace()},
			} {
				there, err := r.exists(ctx, t.db, x.coll)
				if err != nil {
					return err
				}
				if there {
					return fmt.Errorf(x.msg, t.db+"."+x.coll)
				}
			}
		}
		if r.o.Output.NoOptionsRestore {
			return errors.New("cannot specify --noOptionsRestore when restoring timeseries collections")
		}
	}
	if !r.server.AtLeast(4, 9, 0) || r.o.Output.NoIndexRestore {
		return nil
	}
	for _, ns := range r.catalog.namespaces() {
		for _, spec := range r.catalog.specs(ns) {
			key, _ := lookup(spec, "key").(bson.D)
			for _, e := range key {
				if e.Value == "geoHaystack" {
					return fmt.Errorf("found a geoHaystack index: %v on %#q. geoHaystack indexes are not supported by the destination cluster. "+
						"Remove the index from the source or use --noIndexRestore to skip all indexes.", jsonText(key), ns)
				}
			}
		}
	}
	return nil
}

// writeConcern returns what commands carry.
func (r *Restore) writeConcern() bson.D {
	wc := r.o.WriteConcern
	if wc == nil {
		return bson.D{{Key: "w", Value: writeconcern.WCMajority}}
	}
	d := bson.D{}
	if wc.W != nil {
		w := wc.W
		if n, ok := w.(int); ok {
			w = int32(n)
		}
		d = append(d, bson.E{Key: "w", Value: w})
	}
	if wc.Journal != nil {
		d = append(d, bson.E{Key: "j", Value: *wc.Journal})
	}
	if wc.WTimeout > 0 {
		d = append(d, bson.E{Key: "wtimeout", Value: wc.WTimeout.Milliseconds()})
	}
	return d
}

// Acknowledged says whether the server tells what it did, so that documents are counted.
func (o *Options) Acknowledged() bool { return o.WriteConcern == nil || o.WriteConcern.W != 0 }
