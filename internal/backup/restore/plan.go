package restore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/cairndb/cairn/internal/backup/archive"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// task is one unit of work: a collection, or one of the special files.
type task struct {
	src      string // the namespace in the dump; a time-series collection's own
	db, coll string // where it goes
	typ      string // "", "view" or "timeseries"

	size         int64 // of the data as they lie in the dump
	path         string
	form         form
	hasData      bool
	location     string // for messages
	metaPath     string
	metaForm     form
	metaText     string // the metadata themselves, from an archive
	hasMeta      bool
	metaLocation string

	meta  *Metadata
	uuid  string // with --preserveUUID
	again bool   // begins anew though the restore that is resumed had begun it
}

func (t *task) namespace() string { return t.db + "." + t.coll }

// dataColl is the collection that the documents go into.
func (t *task) dataColl(s tool.Server) string {
	if t.typ == "timeseries" && !s.RawData() {
		return tool.BucketPrefix + t.coll
	}
	return t.coll
}

func (t *task) isOplog() bool {
	return t.db == "" && t.coll == "oplog" || t.db == "local" && (t.coll == "oplog.rs" || t.coll == "oplog.$main")
}

func special(t *task, name string) bool {
	return t.coll == "$admin.system."+name || t.db == "admin" && t.coll == "system."+name
}

// metadata reads the task's metadata, nil if it has none.
func (t *task) metadata() ([]byte, error) {
	if !t.hasMeta {
		return nil, nil
	}
	if t.metaPath == "" {
		return []byte(t.metaText), nil
	}
	in, err := openFile(t.metaPath, t.metaForm)
	if err != nil {
		return nil, fmt.Errorf("could not open metadata file %v: %v", t.metaLocation, err)
	}
	text, err := io.ReadAll(in)
	return text, errors.Join(err, in.Close())
}

// plan is what a dump holds and where it goes.
type plan struct {
	tasks    []*task // collections and views, in the order they were found
	users    *task
	roles    *task
	version  *task
	oplog    *task
	indexes  map[string]*task // system.indexes by database, of old dumps
	dumpDir  string           // the directory of the dump, "" for an archive
	dumpFrom [3]int           // the dumped server's version

	bySource  map[string]*task
	dest      map[string][]string
	conflict  bool             // two oplogs
	inArchive map[string]*task // by the name that the data have there
}

func newPlan() *plan {
	return &plan{indexes: map[string]*task{}, bySource: map[string]*task{}, dest: map[string][]string{}, inArchive: map[string]*task{}}
}

// scanner finds the tasks of a dump.
type scanner struct {
	o     *Options
	rules *entry.Rules
	log   *tool.Log
	p     *plan
	// oplogs are a dump's own oplog and those of a dumped database local.
	oplogs []*task
}

// rulesOf makes the rules of which namespaces are restored, and under what name.
func rulesOf(o *Options) (*entry.Rules, error) {
	r := &entry.Rules{SplitTransactions: o.Own.SplitTransactions}
	escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`)
	includes := slices.Clone(o.NS.NSInclude)
	switch db, coll := o.Namespace.DB, o.Namespace.Collection; {
	case db != "" && coll != "":
		includes = append(includes, escape.Replace(db)+"."+coll)
	case db != "":
		includes = append(includes, escape.Replace(db)+".*")
	}
	excludes := slices.Clone(o.NS.NSExclude)
	for _, c := range o.NS.ExcludedCollections {
		excludes = append(excludes, "*."+escape.Replace(c))
	}
	for _, c := range o.NS.ExcludedCollectionPrefixes {
		excludes = append(excludes, "*."+escape.Replace(c)+"*")
	}
	for _, x := range []struct {
		from []string
		to   *[]entry.Pattern
	}{{includes, &r.Include}, {excludes, &r.Exclude}} {
		for _, s := range x.from {
			p, err := entry.ParsePattern(s)
			if err != nil {
				return nil, err
			}
			*x.to = append(*x.to, p)
		}
	}
	for i := range o.NS.NSFrom {
		rn, err := entry.ParseRename(o.NS.NSFrom[i], o.NS.NSTo[i])
		if err != nil {
			return nil, err
		}
		r.Rename = append(r.Rename, rn)
	}
	return r, nil
}

// found is a file of a dump, or what stands for one in an archive.
type found struct {
	db, coll string // as in the dump, unescaped
	meta     bool   // metadata, not documents
	path     string // of the file; for messages in an archive
	form     form
	size     int64
	text     string // metadata of an archive
}

// location is how the original names where something comes from.
func (s *scanner) location(f *found) string {
	switch {
	case s.o.Input.Archive == "-":
		return "archive on stdin"
	case s.o.Input.Archive != "":
		return fmt.Sprintf("archive %#q", s.o.Input.Archive)
	}
	return f.path
}

// put books one file of a database.
func (s *scanner) put(f found, hasMetadata bool) {
	logical := f.db + "." + strings.TrimPrefix(f.coll, tool.BucketPrefix)
	skip := func(format string, args ...any) { s.log.Debug(format, args...) }
	switch {
	case f.coll == "system.profile":
		skip("skipping restore of system.profile collection in %#q", f.db)
		return
	case !f.meta && s.o.Namespace.DB == "" && strings.HasPrefix(f.coll, "$"):
		skip("not restoring special collection %#q", f.db+"."+f.coll)
		return
	case !f.meta && f.coll == "system.indexes" && hasMetadata:
		skip("not restoring system.indexes collection because database %#q has .metadata.json files", f.db)
		return
	}
	to, keep := s.rules.Namespace(logical)
	if !keep {
		skip("skipping restoring %#q, it is not included", f.db+"."+f.coll)
		return
	}
	t := &task{src: logical}
	t.db, t.coll = tool.SplitNamespace(to)
	if f.meta {
		t.hasMeta, t.metaPath, t.metaForm, t.metaText, t.metaLocation = true, f.path, f.form, f.text, s.location(&f)
		if s.o.Input.Archive != "" {
			t.metaPath = ""
		}
		s.log.Info("found collection metadata from %#q to restore to %#q", logical, to)
	} else {
		t.hasData, t.path, t.form, t.size, t.location = true, f.path, f.form, f.size, s.location(&f)
		s.log.Info("found collection %#q bson to restore to %#q", logical, to)
	}
	s.add(t)
	if !f.meta && s.o.Input.Archive != "" {
		for _, x := range append([]*task{s.p.users, s.p.roles, s.p.version, s.p.indexes[f.db]}, s.oplogs...) {
			if x == t {
				s.p.inArchive[f.db+"."+f.coll] = t
			}
		}
		if x := s.p.bySource[logical]; x != nil {
			s.p.inArchive[f.db+"."+f.coll] = x
		}
	}
}

// add books a task, merging the two files of one collection.
func (s *scanner) add(t *task) {
	p := s.p
	for _, x := range []struct {
		name string
		to   **task
	}{{"users", &p.users}, {"roles", &p.roles}, {"version", &p.version}} {
		if special(t, x.name) {
			if t.hasData {
				*x.to = t
			}
			return
		}
	}
	switch {
	case t.isOplog() && t.db != "" && !s.o.Input.OplogReplay:
	case t.isOplog() && t.db != "" && s.o.Input.Archive != "":
	case t.isOplog():
		for _, x := range s.oplogs {
			if x.src == t.src {
				x.merge(t)
				return
			}
		}
		s.oplogs = append(s.oplogs, t)
		return
	case t.coll == "system.indexes":
		if t.hasData {
			p.indexes[t.db] = t
		}
		return
	}
	s.addCollection(t)
}

func (s *scanner) addCollection(t *task) {
	p := s.p
	if x := p.bySource[t.src]; x != nil {
		x.merge(t)
		return
	}
	p.bySource[t.src] = t
	p.tasks = append(p.tasks, t)
	p.dest[t.namespace()] = append(p.dest[t.namespace()], t.src)
}

func (t *task) merge(o *task) {
	if !t.hasData && o.hasData {
		t.hasData, t.path, t.form, t.size, t.location = true, o.path, o.form, o.size, o.location
	}
	if !t.hasMeta && o.hasMeta {
		t.hasMeta, t.metaPath, t.metaForm, t.metaText, t.metaLocation = true, o.metaPath, o.metaForm, o.metaText, o.metaLocation
	}
}

// settleOplog chooses the oplog to replay: one that was named or stands at the top of the
// dump before one of a dumped database local, which is then a collection like others.
func (s *scanner) settleOplog() {
	var top, local []*task
	for _, t := range s.oplogs {
		if t.db == "" {
			top = append(top, t)
		} else {
			local = append(local, t)
		}
	}
	switch {
	case len(top) > 0:
		s.p.oplog = top[0]
		s.p.conflict = len(top) > 1
	case len(local) > 0:
		s.p.oplog = local[0]
		s.p.conflict = len(local) > 1
		local = local[1:]
	}
	for _, t := range local {
		s.addCollection(t)
	}
}

// archive books what an archive's prelude announces.
func (s *scanner) archive(a *archive.Prelude) error {
	// The original walks the databases in the order of their first collection.
	var dbs []string
	for i := range a.Collections {
		if c := &a.Collections[i]; !slices.Contains(dbs, c.DB) {
			dbs = append(dbs, c.DB)
		}
	}
	for _, db := range dbs {
		if db != "" {
			if err := tool.ValidateDBName(db); err != nil {
				return fmt.Errorf("invalid database name %#q: %v", db, err)
			}
		}
		for i := range a.Collections {
			c := &a.Collections[i]
			if c.DB != db {
				continue
			}
			if db == "" {
				if c.Collection == "oplog" && s.o.Input.OplogReplay {
					t := &task{src: ".oplog", coll: "oplog", hasData: true, size: c.Size}
					t.location = s.location(&found{})
					s.add(t)
					s.p.inArchive[".oplog"] = t
				}
				continue
			}
			data := c.Collection
			if c.Type == "timeseries" && !versionOf(a.ServerVersion).RawData() {
				data = tool.BucketPrefix + c.Collection
			}
			s.put(found{db: db, coll: data, size: c.Size, path: filepath.Join(db, tool.EscapeName(data)+".bson")}, true)
			if c.Metadata != "" {
				s.put(found{db: db, coll: c.Collection, meta: true, text: c.Metadata, path: filepath.Join(db, tool.EscapeName(c.Collection)+".metadata.json")}, true)
			}
		}
	}
	s.settleOplog()
	return nil
}

func versionOf(s string) tool.Server {
	v, err := tool.ParseVersion(s)
	if err != nil {
		return tool.Server{}
	}
	return tool.Server{Version: v}
}

// root books a whole dump.
func (s *scanner) root(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("error reading root dump folder: %v", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if isDir(path, e) {
			if err := tool.ValidateDBName(e.Name()); err != nil {
				return fmt.Errorf("invalid database name %#q: %v", e.Name(), err)
			}
			if err := s.database(e.Name(), path); err != nil {
				return err
			}
			continue
		}
		name, f := s.split(e.Name())
		if name != "oplog.bson" {
			s.unknown(path, e.Name())
			continue
		}
		if !s.o.Input.OplogReplay {
			continue
		}
		s.log.Debug("found oplog.bson file to replay")
		info, err := e.Info()
		if err != nil {
			return err
		}
		s.add(&task{src: ".oplog", coll: "oplog", hasData: true, path: path, form: f, size: info.Size(), location: path})
	}
	s.settleOplog()
	return nil
}

// isDir follows links, as the original does.
func isDir(path string, e os.DirEntry) bool {
	if e.Type()&os.ModeSymlink == 0 {
		return e.IsDir()
	}
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// unknown says of a file that it is not restored. Files of the dump itself that hold no
// data are named by the original only.
func (s *scanner) unknown(path, name string) {
	base, _ := splitForm(name)
	if !s.o.Original && (base == "prelude.json" || base == manifestName || strings.HasSuffix(name, tool.PartialSuffix)) {
		return
	}
	s.log.Always(`don't know what to do with file %#q, skipping...`, path)
}

// split takes the packing from a file's name: with the original only what --gzip says.
func (s *scanner) split(name string) (string, form) {
	base, f := splitForm(name)
	switch {
	case !s.o.Original || strings.HasSuffix(name, ".bin"):
		return base, f
	case s.o.Input.Gzip && f == gzipped:
		return base, f
	case s.o.Input.Gzip:
		return "", plain // not a file that --gzip reads
	}
	return name, plain
}

// database books the files of one database.
func (s *scanner) database(db, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("error reading db folder %v: %v", db, err)
	}
	hasMetadata := slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		base, _ := splitForm(e.Name())
		return strings.HasSuffix(base, ".metadata.json")
	})
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if isDir(path, e) {
			s.log.Always(`don't know what to do with subdirectory %#q, skipping...`, filepath.Join(filepath.Base(dir), e.Name()))
			continue
		}
		f, ok, err := s.file(path)
		if err != nil {
			return err
		}
		if !ok {
			s.unknown(path, e.Name())
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		f.db, f.size = db, info.Size()
		s.put(f, hasMetadata)
	}
	return nil
}

// file tells what a file holds from its name; ok is false if it is neither documents nor
// metadata.
func (s *scanner) file(path string) (f found, ok bool, err error) {
	name := filepath.Base(path)
	base, form := s.split(name)
	f = found{path: path, form: form}
	metaPath := ""
	switch {
	case strings.HasSuffix(name, ".bin"): // of old dumps
		base = strings.TrimSuffix(name, ".bin")
	case strings.HasSuffix(base, ".metadata.json"):
		base, f.meta, metaPath = strings.TrimSuffix(base, ".metadata.json"), true, path
	case strings.HasSuffix(base, ".bson"):
		base = strings.TrimSuffix(base, ".bson")
		metaPath = filepath.Join(filepath.Dir(path), base+".metadata.json")
	default:
		return f, false, nil
	}
	coll, cut, err := tool.UnescapeName(base)
	if !cut {
		if err != nil {
			return f, false, fmt.Errorf("error parsing collection name from filename %#q: %v", name, err)
		}
		f.coll = coll
		return f, true, nil
	}
	f.coll, err = s.longName(metaPath, form)
	return f, true, err
}

// longName reads the name of a collection that is too long for a file name.
func (s *scanner) longName(metaPath string, f form) (string, error) {
	if metaPath == "" {
		return "", errors.New("metadata file path is empty")
	}
	var text []byte
	err := error(os.ErrNotExist)
	for _, x := range suffixesFrom(f) {
		path := metaPath
		if _, have := splitForm(metaPath); have == plain {
			path += x.ext
		}
		t := &task{hasMeta: true, metaPath: path, metaForm: x.form, metaLocation: path}
		if _, err = os.Stat(path); err == nil {
			text, err = t.metadata()
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("error reading metadata from %s: %v", metaPath, err)
	}
	m, err := ParseMetadata(text)
	if err != nil {
		return "", fmt.Errorf("error parsing metadata from %s: %v", metaPath, err)
	}
	if m == nil || m.CollectionName == "" {
		return "", fmt.Errorf("no collection name found in metadata file with truncated file name %#q", metaPath)
	}
	return m.CollectionName, nil
}

// suffixesFrom lists the packings a metadata file may have, the likeliest first.
func suffixesFrom(f form) []struct {
	ext  string
	form form
} {
	all := append([]struct {
		ext  string
		form form
	}{{"", plain}}, suffixes...)
	sort.SliceStable(all, func(i, j int) bool { return all[i].form == f && all[j].form != f })
	return all
}

// oneFile books a single .bson file for -d and -c.
func (s *scanner) oneFile(db, coll, path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return fmt.Errorf("file %#q is a directory, not a bson file", path)
	}
	f, ok, err := s.file(path)
	if err != nil {
		return err
	}
	if !ok || f.meta {
		return fmt.Errorf("file %#q does not have .bson or .bson.gz extension", path)
	}
	buckets := strings.HasPrefix(filepath.Base(path), tool.BucketPrefix)
	if buckets {
		coll = strings.TrimPrefix(coll, tool.BucketPrefix)
	}
	t := &task{src: db + "." + coll, db: db, coll: coll, hasData: true, path: path, form: f.form, size: fi.Size(), location: path}
	if buckets {
		t.typ = "timeseries"
	}
	base, _ := s.split(filepath.Base(path))
	base = strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(base, ".bson"), ".bin"), tool.BucketPrefix)
	for _, x := range suffixesFrom(f.form) {
		if s.o.Original && (x.form == gzipped) != s.o.Input.Gzip {
			continue
		}
		mp := filepath.Join(filepath.Dir(path), base+".metadata.json"+x.ext)
		if _, err := os.Stat(mp); err == nil {
			s.log.Info("found metadata for collection at %#q", mp)
			t.hasMeta, t.metaPath, t.metaForm, t.metaLocation = true, mp, x.form, mp
			break
		}
	}
	if !t.hasMeta {
		if buckets {
			return fmt.Errorf("could not find the timeseries collection metadata file for %#q", db+"."+coll)
		}
		s.log.Info("restoring collection without metadata")
	}
	s.add(t)
	s.settleOplog()
	return nil
}

// stdin books a collection that is read from standard input.
func (s *scanner) stdin(db, coll string) {
	s.add(&task{src: db + "." + coll, db: db, coll: coll, hasData: true, location: "-"})
	s.settleOplog()
}

// oplogFile books --oplogFile.
func (s *scanner) oplogFile(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return fmt.Errorf("file %#q is a directory, not a bson file", path)
	}
	_, f := splitForm(path)
	if s.o.Original {
		f = plain
		if s.o.Input.Gzip {
			f = gzipped
		}
	}
	t := &task{src: "oplogFile", coll: "oplog", hasData: true, path: path, form: f, size: fi.Size(), location: path}
	old := s.p.oplog
	switch {
	case old != nil && old.db == "":
		s.p.conflict = true
	case old != nil:
		s.addCollection(old)
	}
	s.p.oplog = t
	return nil
}

// fromFile settles -d and -c for a target that is a file.
func (s *scanner) fromFile(path string) error {
	if s.o.Namespace.Collection == "" {
		f, ok, err := s.file(path)
		if err != nil {
			return err
		}
		if !ok || f.meta {
			if !s.o.Original {
				return fmt.Errorf("file %#q does not have .bson extension; an archive is restored with --archive=%s", path, path)
			}
			return fmt.Errorf("file %#q does not have .bson extension", path)
		}
		s.o.Namespace.Collection = f.coll
		s.log.Debug("inferred collection %#q from file", f.coll)
	}
	if s.o.Namespace.DB == "" {
		db := filepath.Base(filepath.Dir(path))
		if db == "." || db == ".." {
			db = "test"
		}
		s.o.Namespace.DB = db
		s.log.Debug("inferred db %#q from the file's directory", db)
	}
	return nil
}

// conflicts returns the lines of namespaces that several others would become.
func (p *plan) conflicts() []string {
	var out []string
	for dst, srcs := range p.dest {
		if len(srcs) > 1 {
			for _, src := range srcs {
				out = append(out, fmt.Sprintf("destination conflict: %#q (src) => %#q (dst)", src, dst))
			}
		}
	}
	sort.Strings(out)
	return out
}

func trimBuckets(coll string) string { return strings.TrimPrefix(coll, tool.BucketPrefix) }
