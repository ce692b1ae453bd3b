package restore

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/backup/tool"
)

const usage = `<options> <connection-string> <directory or file to restore>

Restore backups generated with mongodump to a running server.

Specify a database with -d to restore a single database from the target directory,
or use -d and -c to restore a single collection from a single .bson file.

Connection strings must begin with mongodb:// or mongodb+srv://.

See http://docs.mongodb.com/database-tools/mongorestore/ for more information.`

const ownUsage = `<options> <connection-string> <directory or file to restore>

Restore a dump of cairn dump or mongodump, in any of their forms, into a running server.

Which namespaces, under which names: --nsInclude, --nsExclude, --nsFrom, --nsTo.
--dryRun prints what would happen and changes nothing.
-d and -c with a single .bson file restore one collection.

Connection strings must begin with mongodb:// or mongodb+srv://.`

// NSOptions say which namespaces are restored.
type NSOptions struct {
	ExcludedCollections        []string `long:"excludeCollection" value-name:"<collection-name>" description:"DEPRECATED; collection to skip over during restore (may be specified multiple times to exclude additional collections)"`
	ExcludedCollectionPrefixes []string `long:"excludeCollectionsWithPrefix" value-name:"<collection-prefix>" description:"DEPRECATED; collections to skip over during restore that have the given prefix (may be specified multiple times to exclude additional prefixes)"`
	NSExclude                  []string `long:"nsExclude" value-name:"<namespace-pattern>" description:"exclude matching namespaces"`
	NSInclude                  []string `long:"nsInclude" value-name:"<namespace-pattern>" description:"include matching namespaces"`
	NSFrom                     []string `long:"nsFrom" value-name:"<namespace-pattern>" description:"rename matching namespaces, must have matching nsTo"`
	NSTo                       []string `long:"nsTo" value-name:"<namespace-pattern>" description:"rename matched namespaces, must have matching nsFrom"`
}

// InputOptions say what is read.
type InputOptions struct {
	Objcheck               bool   `long:"objcheck" description:"validate all objects before inserting"`
	OplogReplay            bool   `long:"oplogReplay" description:"for recovering a point-in-time snapshot on a replica set that is not part of a sharded cluster."`
	OplogLimit             string `long:"oplogLimit" value-name:"<seconds>[:ordinal]" description:"only include oplog entries before the provided Timestamp"`
	OplogFile              string `long:"oplogFile" value-name:"<filename>" description:"oplog file to use for replay of oplog"`
	Archive                string `long:"archive" value-name:"<filename>" optional:"true" optional-value:"-" description:"restore dump from the specified archive file.  If flag is specified without a value, archive is read from stdin"`
	RestoreDBUsersAndRoles bool   `long:"restoreDbUsersAndRoles" description:"restore user and role definitions for the given database"`
	Directory              string `long:"dir" value-name:"<directory-name>" description:"input directory, use '-' for stdin"`
	Gzip                   bool   `long:"gzip" description:"decompress gzipped input"`
}

// OutputOptions say what is done to the server.
type OutputOptions struct {
	Drop   bool `long:"drop" description:"drop each collection before import"`
	DryRun bool `long:"dryRun" description:"view summary without importing anything. recommended with verbosity"`

	WriteConcern             string `long:"writeConcern" value-name:"<write-concern>" default-mask:"-" description:"write concern options e.g. --writeConcern majority, --writeConcern '{w: 3, wtimeout: 500, fsync: true, j: true}'"`
	NoIndexRestore           bool   `long:"noIndexRestore" description:"don't restore indexes"`
	ConvertLegacyIndexes     bool   `long:"convertLegacyIndexes" description:"Removes invalid index options and rewrites legacy option values (e.g. true becomes 1)."`
	NoOptionsRestore         bool   `long:"noOptionsRestore" description:"don't restore collection options"`
	KeepIndexVersion         bool   `long:"keepIndexVersion" description:"don't update index version"`
	MaintainInsertionOrder   bool   `long:"maintainInsertionOrder" description:"restore the documents in the order of their appearance in the input source. By default the insertions will be performed in an arbitrary order. Setting this flag also enables the behavior of --stopOnError and restricts NumInsertionWorkersPerCollection to 1."`
	NumParallelCollections   int    `long:"numParallelCollections" short:"j" description:"number of collections to restore in parallel" default:"4" default-mask:"-"`
	NumInsertionWorkers      int    `long:"numInsertionWorkersPerCollection" description:"number of insert operations to run concurrently per collection" default:"1" default-mask:"-"`
	StopOnError              bool   `long:"stopOnError" description:"halt after encountering any error during insertion. By default, mongorestore will attempt to continue through document validation and DuplicateKey errors, but with this option enabled, the tool will stop instead. A small number of documents may be inserted after encountering an error even with this option enabled; use --maintainInsertionOrder to halt immediately after an error"`
	BypassDocumentValidation bool   `long:"bypassDocumentValidation" description:"bypass document validation"`
	PreserveUUID             bool   `long:"preserveUUID" description:"preserve original collection UUIDs (off by default, requires drop)"`
	TempUsersColl            string `long:"tempUsersColl" default:"tempusers" hidden:"true"`
	TempRolesColl            string `long:"tempRolesColl" default:"temproles" hidden:"true"`
	BulkBufferSize           int    `long:"batchSize" default:"1000" hidden:"true"`
	FixDottedHashedIndexes   bool   `long:"fixDottedHashIndex" description:"when enabled, all the hashed indexes on dotted fields will be created as single field ascending indexes on the destination"`
}

// OwnOptions are those of `cairn restore` alone.
type OwnOptions struct {
	Resume            string `long:"resume" value-name:"<state-file>" description:"keep a record in this file of what is restored; if it is there, go on where the restore that wrote it was interrupted. It is removed at the end"`
	SplitTransactions bool   `long:"splitTransactions" description:"with --oplogReplay and filters: replay the part of a transaction that is not filtered out, instead of refusing it"`
	NoVerify          bool   `long:"noVerify" description:"do not compare counts and checksums with the manifest of the dump"`
}

// Options are a parsed command line.
type Options struct {
	*tool.Options
	NS     NSOptions
	Input  InputOptions
	Output OutputOptions
	Own    OwnOptions

	Original bool      // called as mongorestore: the original's behaviour, always
	Target   string    // directory or file, "" if none was named, "-" for standard input
	Stdin    io.Reader // what "-" reads
	// Memory, if set, is told how many bytes the restore needs, and again when large
	// documents make it more.
	Memory func(bytes int64)

	// RetryFor is how long an insert, or another command that may be repeated, is tried again
	// while the server does not answer or is not the primary; 0 is a minute.
	RetryFor time.Duration

	workersSet bool
}

func (o *Options) retryFor() time.Duration {
	if o.RetryFor > 0 {
		return o.RetryFor
	}
	return time.Minute
}

// ParseOptions reads a command line. original is true under the name mongorestore.
func ParseOptions(c tool.Config, original bool, args []string) (*Options, error) {
	c.Name, c.Usage, c.Server, c.TLS = "mongorestore", usage, true, !original
	if !original {
		c.Name, c.Usage = "cairn restore", ownUsage
	}
	o := &Options{Options: tool.NewOptions(c), Original: original}
	o.AddGroup("namespace", &o.NS)
	o.AddGroup("input", &o.Input)
	o.AddGroup("restore", &o.Output)
	if !original {
		o.AddGroup("cairn", &o.Own)
		o.Describe("dryRun", "print what would be created, dropped and overwritten, and how many bytes, without importing anything")
		o.Describe("gzip", "decompress gzipped input; .gz, .zst and .sz files and compressed streams are told apart without it")
		o.Describe("numInsertionWorkersPerCollection", "number of insert operations to run concurrently per collection; all there are, if not given")
	}
	rest, err := o.Parse(args)
	if err != nil {
		return o, err
	}
	if o.General.Help || o.General.Version {
		return o, nil
	}
	if len(rest) > 1 {
		return o, errors.New("error parsing positional arguments: " +
			"provide only one polling interval in seconds and only one MongoDB connection string. " +
			"Connection strings must begin with mongodb:// or mongodb+srv:// schemes")
	}
	switch {
	case o.Input.Directory != "" && len(rest) > 0:
		return o, errors.New("error parsing positional arguments: cannot use both --dir and a positional argument to set the target directory")
	case len(rest) == 1:
		o.Target = rest[0]
	default:
		o.Target = o.Input.Directory
	}
	o.Target = filepath.FromSlash(o.Target)
	o.workersSet = o.IsSet("numInsertionWorkersPerCollection")
	if o.WriteConcern, err = tool.ParseWriteConcern(o.Output.WriteConcern, o.ConnString); err != nil {
		return o, fmt.Errorf("error parsing write concern: %v", err)
	}
	return o, nil
}

// deprecated is what is said to --db and --collection where patterns do the same.
const deprecated = "The --db and --collection flags are deprecated for this use-case; please use --nsInclude instead, i.e. with --nsInclude=${DATABASE}.${COLLECTION}"

// validate refuses contradictions, in the original's order and words, and settles what
// follows from flags. log gets the warnings.
func (o *Options) validate(atlas bool, log *tool.Log) error {
	db, coll := o.Namespace.DB, o.Namespace.Collection
	if db == "" && coll != "" {
		return errors.New("cannot restore a collection without a specified database")
	}
	if db != "" {
		if err := tool.ValidateDBName(db); err != nil {
			return fmt.Errorf("invalid db name: %v", err)
		}
	}
	if coll != "" {
		if err := tool.ValidateCollectionName(coll); err != nil {
			return fmt.Errorf("invalid collection name: %v", err)
		}
	}
	if o.Input.RestoreDBUsersAndRoles && db == "" {
		return errors.New("cannot use --restoreDbUsersAndRoles without a specified database")
	}
	if o.Input.RestoreDBUsersAndRoles && db == "admin" {
		return errors.New("cannot use --restoreDbUsersAndRoles with the admin database")
	}
	if atlas && (o.Input.RestoreDBUsersAndRoles || db == "admin") {
		return errors.New("cannot restore to the admin database when connected to a MongoDB Atlas free or shared cluster")
	}
	if o.Input.OplogLimit != "" {
		if !o.Input.OplogReplay {
			return errors.New("cannot use --oplogLimit without --oplogReplay enabled")
		}
		if _, err := parseTimestamp(o.Input.OplogLimit); err != nil {
			return fmt.Errorf("error parsing timestamp argument to --oplogLimit: %v", err)
		}
	}
	if o.Input.OplogFile != "" {
		if !o.Input.OplogReplay {
			return errors.New("cannot use --oplogFile without --oplogReplay enabled")
		}
		if o.Input.Archive != "" {
			return errors.New("cannot use --oplogFile with --archive specified")
		}
	}
	if (db != "" || coll != "") && filepath.Ext(o.Target) != ".bson" && o.Original {
		log.Always("%s", deprecated)
	}
	if len(o.NS.ExcludedCollections) > 0 || len(o.NS.ExcludedCollectionPrefixes) > 0 {
		log.Always("the --excludeCollections and --excludeCollectionPrefixes options are deprecated and will not exist in the future; use --nsExclude instead")
	}
	if o.Input.OplogReplay && o.Original {
		switch {
		case len(o.NS.NSInclude) > 0 || db != "":
			return errors.New("cannot use --oplogReplay with includes specified")
		case len(o.NS.NSExclude) > 0 || len(o.NS.ExcludedCollections) > 0 || len(o.NS.ExcludedCollectionPrefixes) > 0:
			return errors.New("cannot use --oplogReplay with excludes specified")
		case len(o.NS.NSFrom) > 0:
			return errors.New("cannot use --oplogReplay with namespace renames specified")
		}
	}
	if err := checkPatterns(o.NS.NSInclude); err != nil {
		return fmt.Errorf("invalid includes: %v", err)
	}
	if len(o.NS.ExcludedCollections) > 0 && coll != "" {
		return errors.New("--collection is not allowed when --excludeCollection is specified")
	}
	if len(o.NS.ExcludedCollectionPrefixes) > 0 && coll != "" {
		return errors.New("--collection is not allowed when --excludeCollectionsWithPrefix is specified")
	}
	if err := checkPatterns(o.NS.NSExclude); err != nil {
		return fmt.Errorf("invalid excludes: %v", err)
	}
	if len(o.NS.NSFrom) != len(o.NS.NSTo) {
		return errors.New("--nsFrom and --nsTo arguments must be specified an equal number of times")
	}
	for i := len(o.NS.NSFrom) - 1; i >= 0; i-- {
		if err := checkRename(o.NS.NSFrom[i], o.NS.NSTo[i]); err != nil {
			return fmt.Errorf("invalid renames: %v", err)
		}
	}
	return o.validateOutput()
}

func (o *Options) validateOutput() error {
	out := &o.Output
	if out.NumInsertionWorkers < 0 {
		return errors.New("cannot specify a negative number of insertion workers per collection")
	}
	if out.MaintainInsertionOrder {
		out.StopOnError = true
		out.NumInsertionWorkers = 1
		o.workersSet = true
	}
	if out.PreserveUUID && !out.Drop {
		return errors.New("cannot specify --preserveUUID without --drop")
	}
	if o.Target == "-" {
		if o.Input.Archive != "" {
			return errors.New("cannot restore from \"-\" when --archive is specified")
		}
		if o.Namespace.Collection == "" {
			return errors.New("cannot restore from stdin without a specified collection")
		}
	}
	if o.Own.Resume != "" && out.DryRun {
		return errors.New("cannot use --resume with --dryRun")
	}
	if o.Own.Resume != "" && o.Target == "-" {
		return errors.New("cannot use --resume when restoring a collection from stdin; a file or an archive can be read again")
	}
	return nil
}

// parseTimestamp reads <seconds>[:ordinal].
func parseTimestamp(s string) (bson.Timestamp, error) {
	parts := strings.Split(s, ":")
	if len(parts) > 2 {
		return bson.Timestamp{}, errors.New("too many : characters")
	}
	sec, err := strconv.Atoi(parts[0])
	if err != nil {
		return bson.Timestamp{}, fmt.Errorf("error parsing timestamp seconds: %v", err)
	}
	inc := 0
	if len(parts) == 2 && parts[1] != "" {
		if inc, err = strconv.Atoi(parts[1]); err != nil {
			return bson.Timestamp{}, fmt.Errorf("error parsing timestamp increment: %v", err)
		}
	}
	for _, n := range []int{sec, inc} {
		if n < 0 || n > 1<<32-1 {
			return bson.Timestamp{}, fmt.Errorf("%d is not between 0 and 4294967295", n)
		}
	}
	return bson.Timestamp{T: uint32(sec), I: uint32(inc)}, nil
}

// checkPatterns refuses what is no pattern of --nsInclude or --nsExclude.
func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if strings.Contains(p, "$") {
			return fmt.Errorf("'$' is not allowed in include/exclude patternsj processing include/exclude pattern: '%s'", p) // the original's text, to the letter
		}
	}
	return nil
}

// checkRename refuses what is no pair of --nsFrom and --nsTo.
func checkRename(from, to string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("Invalid replacement from %#q to %#q: %s", from, to, fmt.Sprintf(format, args...)) //nolint:staticcheck // the original's text
	}
	stars := func(s string) int { return strings.Count(s, "*") - strings.Count(s, `\*`) }
	if !strings.Contains(from, "$") {
		if stars(from) != stars(to) {
			return fmt.Errorf("Different number of asterisks in from: %#q and to: %#q", from, to) //nolint:staticcheck // the original's text
		}
		if strings.Contains(to, "$") {
			name, _, closed := strings.Cut(to[strings.Index(to, "$")+1:], "$")
			if !closed {
				return bad("Extraneous '$'")
			}
			return bad("Unknown variable %#q", name)
		}
		return nil
	}
	if strings.Count(from, "$")%2 != 0 {
		return fmt.Errorf("Odd number of dollar signs in from: %#q", from) //nolint:staticcheck // the original's text
	}
	if strings.Count(to, "$")%2 != 0 {
		return fmt.Errorf("Odd number of dollar signs in to: %#q", to) //nolint:staticcheck // the original's text
	}
	seen := map[string]bool{}
	for i, v := range strings.Split(from, "$") {
		if i%2 == 1 {
			if seen[v] {
				return bad("Variable name %#q used more than once", v)
			}
			seen[v] = true
		}
	}
	for i, v := range strings.Split(to, "$") {
		if i%2 == 1 && !seen[v] {
			return bad("Unknown variable %#q", v)
		}
	}
	return nil
}
