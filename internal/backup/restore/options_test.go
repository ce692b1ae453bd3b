package restore

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/backup/tool"
)

func parse(t testing.TB, original bool, args ...string) (*Options, error) {
	t.Helper()
	return ParseOptions(tool.Config{Version: "v", Stderr: io.Discard}, original, args)
}

// The contradictions, in the original's words.
func TestContradictions(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-c c", "cannot restore a collection without a specified database"},
		{"-d a/b", "invalid db name: illegal character '/' found in db name `a/b`"},
		{"-d d -c a$b", "invalid collection name: illegal character '$' found in `a$b`"},
		{"--restoreDbUsersAndRoles", "cannot use --restoreDbUsersAndRoles without a specified database"},
		{"--restoreDbUsersAndRoles -d admin", "cannot use --restoreDbUsersAndRoles with the admin database"},
		{"--oplogLimit 1:2", "cannot use --oplogLimit without --oplogReplay enabled"},
		{"--oplogReplay --oplogLimit 1:2:3", "error parsing timestamp argument to --oplogLimit: too many : characters"},
		{"--oplogReplay --oplogLimit x", "error parsing timestamp argument to --oplogLimit: error parsing timestamp seconds: strconv.Atoi: parsing \"x\": invalid syntax"},
		{"--oplogFile f", "cannot use --oplogFile without --oplogReplay enabled"},
		{"--oplogFile f --oplogReplay --archive=a", "cannot use --oplogFile with --archive specified"},
		{"--nsInclude a$b", "invalid includes: '$' is not allowed in include/exclude patternsj processing include/exclude pattern: 'a$b'"},
		{"--nsExclude a$b", "invalid excludes: '$' is not allowed in include/exclude patternsj processing include/exclude pattern: 'a$b'"},
		{"-d d -c c --excludeCollection x", "--collection is not allowed when --excludeCollection is specified"},
		{"-d d -c c --excludeCollectionsWithPrefix x", "--collection is not allowed when --excludeCollectionsWithPrefix is specified"},
		{"--nsFrom a.b", "--nsFrom and --nsTo arguments must be specified an equal number of times"},
		{"--nsFrom a.* --nsTo b", "invalid renames: Different number of asterisks in from: `a.*` and to: `b`"},
		{"--nsFrom a.$x --nsTo b", "invalid renames: Odd number of dollar signs in from: `a.$x`"},
		{"--nsFrom a.$x$ --nsTo b.$x", "invalid renames: Odd number of dollar signs in to: `b.$x`"},
		{"--nsFrom a.$x$ --nsTo b.$y$", "invalid renames: Invalid replacement from `a.$x$` to `b.$y$`: Unknown variable `y`"},
		{"--nsFrom $x$.$x$ --nsTo b", "invalid renames: Invalid replacement from `$x$.$x$` to `b`: Variable name `x` used more than once"},
		{"--nsFrom a.b --nsTo b$", "invalid renames: Invalid replacement from `a.b` to `b$`: Extraneous '$'"},
		{"--numInsertionWorkersPerCollection=-1", "cannot specify a negative number of insertion workers per collection"},
		{"--preserveUUID", "cannot specify --preserveUUID without --drop"},
		{"--archive=a -", "cannot restore from \"-\" when --archive is specified"},
		{"-", "cannot restore from stdin without a specified collection"},
	} {
		for _, original := range []bool{true, false} {
			o, err := parse(t, original, strings.Fields(c.args)...)
			if err == nil {
				err = o.validate(false, nil)
			}
			if err == nil || err.Error() != c.want {
				t.Errorf("%s, original %v: %v\nwant %s", c.args, original, err, c.want)
			}
		}
	}
	for _, c := range []struct{ args, want string }{ // the original only
		{"--oplogReplay --nsInclude a.*", "cannot use --oplogReplay with includes specified"},
		{"--oplogReplay -d a", "cannot use --oplogReplay with includes specified"},
		{"--oplogReplay --nsExclude a.*", "cannot use --oplogReplay with excludes specified"},
		{"--oplogReplay --nsFrom a.* --nsTo b.*", "cannot use --oplogReplay with namespace renames specified"},
	} {
		o, err := parse(t, true, strings.Fields(c.args)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.validate(false, nil); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v", c.args, err)
		}
		if o, err = parse(t, false, strings.Fields(c.args)...); err != nil {
			t.Fatal(err)
		}
		if err := o.validate(false, nil); err != nil {
			t.Errorf("%s as cairn restore: %v", c.args, err)
		}
	}
	for args, want := range map[string]string{ // refused when read
		"--nope":                "unknown option `nope`",
		"a b":                   "error parsing positional arguments: provide only one polling interval in seconds and only one MongoDB connection string. Connection strings must begin with mongodb:// or mongodb+srv:// schemes",
		"--dir d e":             "error parsing positional arguments: cannot use both --dir and a positional argument to set the target directory",
		"--writeConcern {w:-1}": "error parsing write concern: invalid 'w' argument: -1",
		"--resume s":            "unknown option `resume`",
	} {
		if _, err := parse(t, true, strings.Fields(args)...); err == nil || err.Error() != want {
			t.Errorf("%s: %v", args, err)
		}
	}
	o, err := parse(t, false, "--resume=s", "-d", "d", "-c", "c", "-")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.validate(false, nil); err == nil || !strings.Contains(err.Error(), "--resume") {
		t.Error(err)
	}
	if o.validate(true, nil) == nil {
		t.Error("anything goes on Atlas")
	}
}

func TestParseTimestamp(t *testing.T) {
	for s, want := range map[string]bson.Timestamp{"5": {T: 5}, "5:": {T: 5}, "5:7": {T: 5, I: 7}, "4294967295:4294967295": {T: 4294967295, I: 4294967295}} {
		if got, err := parseTimestamp(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-1", "4294967296", "1:4294967296", "1:-1", "1:x"} {
		if got, err := parseTimestamp(s); err == nil {
			t.Errorf("%s is %v", s, got)
		}
	}
}

func TestMaintainInsertionOrder(t *testing.T) {
	o, err := parse(t, false, "--maintainInsertionOrder", "--numInsertionWorkersPerCollection=8")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.validate(false, nil); err != nil || !o.Output.StopOnError || o.Output.NumInsertionWorkers != 1 {
		t.Errorf("%v, %+v", err, o.Output)
	}
}

// scanTree scans a tree of files and returns "source -> destination (data metadata)".
func scanTree(t *testing.T, original bool, files map[string]string, args ...string) (*plan, string, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, err := parse(t, original, args...)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	rules, err := rulesOf(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &scanner{o: o, rules: rules, log: tool.NewLog(&said, 0), p: newPlan()}
	if o.Namespace.DB != "" {
		err = s.database(o.Namespace.DB, dir)
		s.settleOplog()
	} else {
		err = s.root(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, x := range s.p.tasks {
		what := ""
		if x.hasData {
			what += " data"
		}
		if x.hasMeta {
			what += " metadata"
		}
		out = append(out, x.src+" -> "+x.namespace()+what)
	}
	for name, x := range map[string]*task{"users": s.p.users, "roles": s.p.roles, "version": s.p.version, "oplog": s.p.oplog} {
		if x != nil {
			out = append(out, name)
		}
	}
	return s.p, strings.Join(out, "\n"), strings.ReplaceAll(said.String(), dir, "DIR")
}

func TestScan(t *testing.T) {
	long := strings.Repeat("長", 80)
	tree := map[string]string{
		"a/c.bson": "", "a/c.metadata.json": "{}", "a/with%2Fslash.bson": "", "a/view.metadata.json": "{}",
		"a/ts.metadata.json": "{}", "a/system.buckets.ts.bson": "", "a/system.profile.bson": "", "a/system.indexes.bson": "",
		"a/$admin.system.users.bson": "", "b/x.bson": "", "b/packed.bson.gz": "", "b/packed.metadata.json.zst": "", "b/notes.txt": "",
		"admin/system.users.bson": "", "admin/system.version.bson": "", "oplog.bson": "", "prelude.json": "{}", "local/oplog.rs.bson": "",
		"a/" + tool.EscapeName(long) + ".bson": "", "a/" + tool.EscapeName(long) + ".metadata.json": `{"collectionName":"` + long + `"}`,
	}
	p, got, said := scanTree(t, false, tree)
	longName := "a." + long
	want := longName + " -> " + longName + " data metadata\n" +
		"a.c -> a.c data metadata\na.ts -> a.ts data metadata\na.view -> a.view metadata\na.with/slash -> a.with/slash data\n" +
		"b.packed -> b.packed data metadata\nb.x -> b.x data\nlocal.oplog.rs -> local.oplog.rs data\n"
	if !strings.HasPrefix(got+"\n", want) || !strings.Contains(got, "\nusers") || !strings.Contains(got, "\nversion") || strings.Contains(got, "\noplog") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if p.tasks[5].form != gzipped || p.tasks[5].metaForm != zstandard {
		t.Error("forms")
	}
	if strings.Contains(said, "prelude") || !strings.Contains(said, "don't know what to do with file `DIR/b/notes.txt`, skipping...") {
		t.Error(said)
	}
	if _, got, _ := scanTree(t, false, tree, "--oplogReplay"); !strings.Contains(got, "\noplog") || !strings.Contains(got, "local.oplog.rs ->") {
		t.Errorf("with an oplog to replay:\n%s", got)
	}
	delete(tree, "oplog.bson")
	if _, got, _ := scanTree(t, false, tree, "--oplogReplay"); !strings.Contains(got, "\noplog") || strings.Contains(got, "local.oplog.rs ->") {
		t.Errorf("with local's oplog to replay:\n%s", got)
	}
	delete(tree, "a/"+tool.EscapeName(long)+".metadata.json")
	delete(tree, "a/"+tool.EscapeName(long)+".bson")
	// As the original, only what --gzip says is read.
	_, got, said = scanTree(t, true, tree)
	if strings.Contains(got, "packed") || !strings.Contains(said, "DIR/prelude.json`, skipping") || !strings.Contains(said, "packed.bson.gz`, skipping") {
		t.Errorf("%s\n%s", got, said)
	}
	_, got, _ = scanTree(t, true, tree, "--gzip")
	if got != "b.packed -> b.packed data" {
		t.Error(got)
	}
}

func TestScanFilters(t *testing.T) {
	tree := map[string]string{"a/c.bson": "", "a/d.bson": "", "b/c.bson": "", "a/system.buckets.t.bson": "", "a/t.metadata.json": "{}"}
	for args, want := range map[string]string{
		"--nsInclude a.*":                                 "a.c -> a.c data\na.d -> a.d data\na.t -> a.t data metadata",
		"--nsInclude *.c":                                 "a.c -> a.c data\nb.c -> b.c data",
		"--nsExclude a.*":                                 "b.c -> b.c data",
		"--nsExclude a.t --nsExclude b.*":                 "a.c -> a.c data\na.d -> a.d data",
		"--excludeCollection c --excludeCollection t":     "a.d -> a.d data",
		"--excludeCollectionsWithPrefix c --nsInclude *d": "a.d -> a.d data",
		"--nsFrom a.* --nsTo z.*":                         "a.c -> z.c data\na.d -> z.d data\na.t -> z.t data metadata\nb.c -> b.c data",
		"--nsFrom $db$.$c$ --nsTo all.$c$_$db$":           "a.c -> all.c_a data\na.d -> all.d_a data\na.t -> all.t_a data metadata\nb.c -> all.c_b data",
		"--nsFrom *.c --nsTo x.*":                         "a.c -> x.a data\na.d -> a.d data\na.t -> a.t data metadata\nb.c -> x.b data",
	} {
		if _, got, _ := scanTree(t, false, tree, strings.Fields(args)...); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", args, got, want)
		}
	}
	p, _, _ := scanTree(t, false, tree, "--nsFrom", "*.c", "--nsTo", "one.*", "--nsFrom", "$x$.c", "--nsTo", "one.c")
	if got := strings.Join(p.conflicts(), "\n"); got != "destination conflict: `a.c` (src) => `one.c` (dst)\ndestination conflict: `b.c` (src) => `one.c` (dst)" {
		t.Error(got)
	}
}

// A view comes behind the view it reads.
func TestOrderViews(t *testing.T) {
	view := func(name, on string) *task {
		return &task{src: "d." + name, db: "d", coll: name, typ: "view", meta: &Metadata{Options: bson.D{{Key: "viewOn", Value: on}}}}
	}
	var got []string
	for _, v := range orderViews([]*task{view("c", "b"), view("x", "y"), view("y", "x"), {src: "d.coll"}, view("a", "coll"), view("b", "a")}) {
		got = append(got, v.coll)
	}
	if s := strings.Join(got, " "); s != "a b c y x" {
		t.Error(s)
	}
}
