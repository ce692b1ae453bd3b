package dump

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/backup/tool"
)

const usage = `<options> <connection-string>

Export the content of a running server into .bson files.

Specify a database with -d and a collection with -c to only dump that database or collection.

Connection strings must begin with mongodb:// or mongodb+srv://.

See http://docs.mongodb.com/database-tools/mongodump/ for more information.`

const cairnUsage = `<options> <connection-string>

Copy the content of a running server into .bson files, or into one archive.

Everything mongodump does, with the same flags and files; linked as mongodump it is just
that. docs/BACKUP.md tells what is more.`

// Input says what is read.
type Input struct {
	Query          string `long:"query" short:"q" description:"query filter, as a v2 Extended JSON string, e.g., '{\"x\":{\"$gt\":1}}'"`
	QueryFile      string `long:"queryFile" description:"path to a file containing a query filter (v2 Extended JSON)"`
	ReadPreference string `long:"readPreference" value-name:"<string>|<json>" description:"specify either a preference mode (e.g. 'nearest') or a preference json object (e.g. '{mode: \"nearest\", tagSets: [{a: \"b\"}], maxStalenessSeconds: 123}')"`
	TableScan      bool   `long:"forceTableScan" description:"force a table scan (do not use $snapshot or hint _id). Deprecated since this is default behavior on WiredTiger"`
	WritesDone     string `long:"internalOnlySourceWritesDoneBarrier" hidden:"true"`
}

// Output says where it is written, and how.
type Output struct {
	Out                string   `long:"out" value-name:"<directory-path>" short:"o" description:"output directory, or '-' for stdout (default: 'dump')"`
	Gzip               bool     `long:"gzip" description:"compress archive or collection output with Gzip"`
	Oplog              bool     `long:"oplog" description:"for taking a point-in-time snapshot on a replica set that is not part of a sharded cluster."`
	Archive            string   `long:"archive" value-name:"<file-path>" optional:"true" optional-value:"-" description:"dump as an archive to the specified path. If flag is specified without a value, archive is written to stdout"`
	UsersAndRoles      bool     `long:"dumpDbUsersAndRoles" description:"dump user and role definitions for the specified database"`
	Excluded           []string `long:"excludeCollection" value-name:"<collection-name>" description:"collection to exclude from the dump (may be specified multiple times to exclude additional collections)"`
	ExcludedPrefixes   []string `long:"excludeCollectionsWithPrefix" value-name:"<collection-prefix>" description:"exclude all collections from the dump that have the given prefix (may be specified multiple times to exclude additional prefixes)"`
	Parallel           int      `long:"numParallelCollections" short:"j" description:"number of collections to dump in parallel" default:"4" default-mask:"-"`
	ViewsAsCollections bool     `long:"viewsAsCollections" description:"dump views as normal collections with their produced data, omitting standard collections"`
}

// Beyond holds what the original does not have.
type Beyond struct {
	ParallelIn  int    `long:"parallelInCollection" value-name:"<readers>" description:"read one collection with this many cursors, each over a range of _id, if it is big enough" default:"1" default-mask:"-"`
	Compress    string `long:"compress" value-name:"<method>" description:"compress collections or the archive: zstd, snappy, gzip or none; blocks are compressed on all cores, the files are readable with zstd -d, gunzip and the snappy framing tools"`
	Manifest    bool   `long:"manifest" description:"write a manifest with counts and checksums: manifest.json in the directory, or next to the archive"`
	StrictOplog bool   `long:"strict-oplog" description:"with --oplog, do as mongodump: read the oplog at the end, and give up on renames"`
	Resume      bool   `long:"resume" description:"keep what is done when the dump is interrupted, and go on from there when it is started again with the same options"`
}

// Options is a parsed command line.
type Options struct {
	*tool.Options
	Input    Input
	Output   Output
	Beyond   Beyond
	Original bool // be mongodump to the last byte
	// RetryFor is how long a collection, or the oplog, is tried to be read on while no server
	// answers, counted from the last document; 0 is a minute.
	RetryFor time.Duration
}

func (o *Options) retryFor() time.Duration {
	if o.RetryFor > 0 {
		return o.RetryFor
	}
	return time.Minute
}

// ParseOptions reads the command line. original is the form under the name mongodump.
// Options.General.Help and Version are for the caller to act on.
func ParseOptions(args []string, original bool, version, commit string) (*Options, error) {
	o := New(original, version, commit)
	rest, err := o.Parse(args)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errors.New("error parsing positional arguments: provide only one MongoDB connection string. " +
			"Connection strings must begin with mongodb:// or mongodb+srv:// schemes")
	}
	return o, nil
}

// New returns the options with their defaults, for a caller that fills them in itself
// before it calls Parse.
func New(original bool, version, commit string) *Options {
	c := tool.Config{Name: "mongodump", Usage: usage, Version: version, Commit: commit, Server: true}
	if !original {
		c.Name, c.Usage, c.TLS = "cairn dump", cairnUsage, true
	}
	o := &Options{Options: tool.NewOptions(c), Original: original, Output: Output{Parallel: 4}, Beyond: Beyond{ParallelIn: 1}}
	o.AddGroup("query", &o.Input)
	o.AddGroup("output", &o.Output)
	if !original {
		o.AddGroup("beyond mongodump", &o.Beyond)
	}
	return o
}

// tails says that the oplog is followed from the first second.
func (o *Options) tails() bool { return o.Output.Oplog && !o.Original && !o.Beyond.StrictOplog }

// validate refuses what contradicts itself. The texts, and the order, are the original's.
func (o *Options) validate(atlas bool) error {
	out, in, ns := &o.Output, &o.Input, &o.Namespace
	switch {
	case out.Out == "-" && ns.Collection == "":
		return errors.New("can only dump a single collection to stdout")
	case ns.DB == "" && ns.Collection != "":
		return errors.New("cannot dump a collection without a specified database")
	case in.Query != "" && ns.Collection == "":
		return errors.New("cannot dump using a query without a specified collection")
	case in.QueryFile != "" && ns.Collection == "":
		return errors.New("cannot dump using a queryFile without a specified collection")
	case in.Query != "" && in.QueryFile != "":
		return errors.New("either query or queryFile can be specified as a query option, not both")
	case in.Query != "" && in.TableScan:
		return errors.New("cannot use --forceTableScan when specifying --query")
	case out.UsersAndRoles && ns.DB == "":
		return errors.New("must specify a database when running with dumpDbUsersAndRoles")
	case out.UsersAndRoles && ns.Collection != "":
		return errors.New("cannot specify a collection when running with dumpDbUsersAndRoles")
	case strings.HasPrefix(ns.Collection, tool.BucketPrefix):
		return errors.New("cannot specify a system.buckets collection in --collection. " +
			"Specifying the timeseries collection will dump the system.buckets collection")
	case out.Oplog && ns.DB != "" && !o.tails():
		return errors.New("--oplog mode only supported on full dumps")
	case len(out.Excluded) > 0 && ns.Collection != "":
		return errors.New("--collection is not allowed when --excludeCollection is specified")
	case len(out.ExcludedPrefixes) > 0 && ns.Collection != "":
		return errors.New("--collection is not allowed when --excludeCollectionsWithPrefix is specified")
	case len(out.Excluded) > 0 && ns.DB == "":
		return errors.New("--db is required when --excludeCollection is specified")
	case len(out.ExcludedPrefixes) > 0 && ns.DB == "":
		return errors.New("--db is required when --excludeCollectionsWithPrefix is specified")
	case out.Out != "" && out.Archive != "":
		return errors.New("--out not allowed when --archive is specified")
	case out.Out == "-" && out.Gzip:
		return errors.New("compression can't be used when dumping a single collection to standard output")
	case out.Parallel <= 0:
		return errors.New("numParallelCollections must be positive")
	case atlas && (out.UsersAndRoles || ns.DB == "admin"):
		return errors.New("can't dump from admin database when connecting to a MongoDB Atlas free or shared cluster")
	}
	if o.Original {
		return nil
	}
	return o.validateBeyond()
}

func (o *Options) validateBeyond() error {
	out, b := &o.Output, &o.Beyond
	method, err := parseMethod(b.Compress)
	switch {
	case err != nil:
		return err
	case out.Gzip && b.Compress != "" && method != methodGzip:
		return errors.New("--gzip not allowed when --compress is specified with another method")
	case out.Out == "-" && method != methodNone:
		return errors.New("compression can't be used when dumping a single collection to standard output")
	case out.Out == "-" && out.Oplog:
		return errors.New("--oplog not allowed when dumping a single collection to standard output")
	case out.Oplog && (o.Input.Query != "" || o.Input.QueryFile != ""):
		return errors.New("--oplog not allowed when --query is specified: the oplog cannot be filtered by a query")
	case out.Oplog && out.ViewsAsCollections:
		return errors.New("--oplog not allowed when --viewsAsCollections is specified: a view has no oplog entries")
	case b.StrictOplog && !out.Oplog:
		return errors.New("--strict-oplog requires --oplog")
	case b.ParallelIn <= 0:
		return errors.New("parallelInCollection must be positive")
	case b.Manifest && (out.Out == "-" || out.Archive == "-"):
		return errors.New("--manifest not allowed when dumping to standard output: there is no place for it")
	case b.Resume && (out.Archive != "" || out.Out == "-"):
		return errors.New("--resume requires a directory: an archive is one stream that cannot be taken up in the middle")
	}
	return nil
}

// method is the compression the options ask for.
func (o *Options) method() method {
	if o.Output.Gzip {
		return methodGzip
	}
	m, _ := parseMethod(o.Beyond.Compress) // validate has seen it
	return m
}

// root is the output directory.
func (o *Options) root() string {
	if o.Output.Out == "" {
		return "dump"
	}
	return o.Output.Out
}

// query returns the filter's text, nil if there is none.
func (o *Options) query() ([]byte, error) {
	if o.Input.Query != "" {
		return []byte(o.Input.Query), nil
	}
	if o.Input.QueryFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(o.Input.QueryFile)
	if err != nil {
		return nil, fmt.Errorf("error reading queryFile: %s", err)
	}
	return b, nil
}
