package command

import (
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
)

var ddlCommands = []Command{
	{Name: "create", Flags: Write | V1, Run: runCreate, Args: createArgs, Unstable: []string{"autoIndexId", "capped", "indexOptionDefaults", "max", "size", "storageEngine"}, Help: "Makes a collection or a view."},
	{Name: "drop", Flags: Write | V1, Run: runDrop, Help: "Drops a collection or a view."},
	{Name: "dropDatabase", Flags: Write | V1, Run: runDropDatabase, Help: "Drops a database."},
	{Name: "renameCollection", Flags: Write | AdminOnly, Run: runRename, Args: []Arg{{"to", TString, true}, {"dropTarget", TBoolLike, false}, {"stayTemp", TBoolLike, false}}, Help: "Gives a collection another name."},
	{Name: "collMod", Flags: Write | V1 | AnyArgs, Run: runCollMod, Help: "Changes options of a collection, an index or a view."},
	{Name: "convertToCapped", Flags: Write, Run: runConvertToCapped, Args: []Arg{{"size", TNumber, true}}, Help: "Makes a collection a capped one."},
	{Name: "createIndexes", Flags: Write | V1, Run: runCreateIndexes, Args: []Arg{{"indexes", TArray, true}, {"commitQuorum", TNumber | TString, false}, {"ignoreUnknownIndexOptions", TBoolLike, false}}, Help: "Builds indexes."},
	{Name: "dropIndexes", Aliases: []string{"deleteIndexes"}, Flags: Write | V1, Run: runDropIndexes, Args: []Arg{{"index", TString | TArray | TObject, true}}, Help: "Drops indexes by name, key or '*'."},
}

// createArgs are the options of a collection or view. The catalog looks at their values.
var createArgs = []Arg{
	{"capped", TBoolLike, false}, {"size", TNumber, false}, {"max", TNumber, false}, {"temp", TBoolLike, false},
	{"autoIndexId", TBoolLike, false}, {"idIndex", TObject, false}, {"storageEngine", TObject, false}, {"indexOptionDefaults", TObject, false},
	{"validator", TObject, false}, {"validationLevel", TString, false}, {"validationAction", TString, false},
	{"viewOn", TString, false}, {"pipeline", TArray, false}, {"collation", TObject, false},
	{"changeStreamPreAndPostImages", TObject, false}, {"recordPreImages", TBoolLike, false}, {"timeseries", TObject, false},
	{"clusteredIndex", TObject | TBool, false}, {"expireAfterSeconds", TNumber | TString, false}, {"encryptedFields", TObject, false}, {"flags", TNumber, false},
}

// checkView refuses a view whose pipeline cannot be run, as MongoDB does when the view is made.
func (c *Ctx) checkView(ns catalog.Namespace) error {
	on, p := c.ArgStr("viewOn"), c.Arg("pipeline")
	if on == "" || p.Type != bson.TypeArray || c.Node.CheckView == nil {
		return nil
	}
	return c.Node.CheckView(ns, on, p.Doc())
}

// wroteFuture notes what DDL wrote; nil is nothing.
func (c *Ctx) wroteFuture(f *oplog.Future) {
	if f != nil {
		c.Wrote(WriteResult{f.OpTime.TS, f.OpTime.Term})
	}
}

func (c *Ctx) ddlNS() (catalog.Namespace, error) {
	coll, err := c.Collection()
	return catalog.Namespace{DB: strings.Clone(c.DB), Coll: strings.Clone(coll)}, err // the catalog keeps it
}

// ownArgs are the fields of a command but its name and the generic ones.
func (c *Ctx) ownArgs() bson.Raw {
	b := bson.NewBuilder(nil)
	it := c.Body.Iter()
	it.Next()
	for it.Next() {
		if genericArg(it.Key()) < 0 {
			b.Append(it.Key(), it.Value())
		}
	}
	return b.Finish()
}

func runCreate(c *Ctx) error {
	ns, err := c.ddlNS()
	if err != nil {
		return err
	}
	if err := c.checkView(ns); err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	f, err := c.Node.Catalog.Create(ctx, ns, c.ownArgs())
	c.wroteFuture(f)
	if err == nil && !c.Arg("autoIndexId").IsNullish() {
		c.Reply.Str("note", "The autoIndexId option is deprecated and will be removed in a future release")
	}
	return err
}

func runDrop(c *Ctx) error {
	ns, err := c.ddlNS()
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	res, err := c.Node.Catalog.Drop(ctx, ns)
	if mongoerr.Is(err, mongoerr.NamespaceNotFound) {
		return nil // since 7.0 dropping what is not there succeeds
	}
	if err != nil {
		return err
	}
	c.wroteFuture(res.Future)
	c.Node.Counters.top.drop(ns.String())
	if !res.View {
		c.Reply.IntOrLong("nIndexesWas", int64(res.Indexes))
	}
	c.Reply.Str("ns", ns.String())
	return nil
}

func runDropDatabase(c *Ctx) error {
	if _, v := c.first(); v.IsNumber() {
		if n, _ := v.AsInt64(); n != 1 {
			return mongoerr.New(5255100, "Have to pass 1 as 'dropDatabase' parameter")
		}
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	f, err := c.Node.Catalog.DropDatabase(ctx, c.DB)
	if err != nil {
		return err
	}
	c.wroteFuture(f)
	c.Node.Counters.top.dropDatabase(c.DB)
	if f != nil {
		c.Reply.Str("dropped", c.DB)
	}
	return nil
}

func runRename(c *Ctx) error {
	_, v := c.first()
	if v.Type != bson.TypeString {
		return wrongType("renameCollection.renameCollection", v.Type, TString)
	}
	from, err := splitNS(strings.Clone(v.Str()))
	if err != nil {
		return err
	}
	to, err := splitNS(strings.Clone(c.ArgStr("to")))
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	f, err := c.Node.Catalog.Rename(ctx, from, to,
		catalog.RenameOptions{DropTarget: c.ArgBool("dropTarget", false), StayTemp: c.ArgBool("stayTemp", false)})
	c.wroteFuture(f)
	if err == nil {
		c.Node.Counters.top.drop(from.String(), to.String())
	}
	return err
}

func runCollMod(c *Ctx) error {
	ns, err := c.ddlNS()
	if err != nil {
		return err
	}
	if err := c.checkView(ns); err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	res, err := c.Node.Catalog.CollMod(ctx, ns, c.ownArgs())
	if err != nil {
		return err
	}
	c.wroteFuture(res.Future)
	c.Reply.AppendElems(res.Reply)
	return nil
}

func runConvertToCapped(c *Ctx) error {
	ns, err := c.ddlNS()
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	f, err := c.Node.Catalog.ConvertToCapped(ctx, ns, c.ArgInt("size", 0))
	c.wroteFuture(f)
	return err
}

// checkCommitQuorum refuses what one member cannot give.
func (c *Ctx) checkCommitQuorum() error {
	v := c.Arg("commitQuorum")
	if v.IsNullish() {
		return nil
	}
	if c.Node.Repl.SetName() == "" {
		return mongoerr.New(mongoerr.BadValue, "Standalones can't specify commitQuorum")
	}
	if v.Type == bson.TypeString {
		switch v.Str() {
		case "majority", "votingMembers":
			return nil
		}
	} else if n, ok := v.AsInt64(); ok && n >= 0 && n <= int64(c.Node.Repl.Members()) {
		return nil
	}
	return mongoerr.New(278, "Commit quorum cannot be satisfied with the current replica set configuration")
}

func runCreateIndexes(c *Ctx) error {
	ns, err := c.ddlNS()
	if err != nil {
		return err
	}
	if err := c.checkCommitQuorum(); err != nil {
		return err
	}
	specs, err := c.ArgDocs("indexes")
	if err != nil {
		return err
	}
	for i := range specs {
		specs[i] = specs[i].Clone()
	}
	if len(specs) == 0 {
		return mongoerr.New(mongoerr.BadValue, "Must specify at least one index to create")
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	if c.ArgBool("ignoreUnknownIndexOptions", false) {
		specs = knownIndexOptions(specs)
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	res, err := c.Node.Catalog.CreateIndexes(ctx, ns, specs)
	if err != nil {
		return err
	}
	c.wroteFuture(res.Future)
	c.Reply.IntOrLong("numIndexesBefore", int64(res.Before)).IntOrLong("numIndexesAfter", int64(res.After))
	if res.AllExist {
		c.Reply.Str("note", "all indexes already exist")
		return nil
	}
	c.Reply.Bool("createdCollectionAutomatically", res.CreatedCollection)
	if len(res.Kept) > 0 {
		c.Reply.Str("note", "no query will use "+strings.Join(res.Kept, ", ")+": this version of Cairn has no engine for such indexes and only keeps their specifications")
	}
	if c.Node.Repl.SetName() != "" {
		c.Reply.Str("commitQuorum", "votingMembers")
	}
	return nil
}

func runDropIndexes(c *Ctx) error {
	ns, err := c.ddlNS()
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	res, err := c.Node.Catalog.DropIndexes(ctx, ns, c.Arg("index"))
	if err != nil {
		return err
	}
	c.wroteFuture(res.Future)
	c.Reply.IntOrLong("nIndexesWas", int64(res.Was))
	if res.All {
		c.Reply.Str("msg", "non-_id indexes dropped for collection")
	}
	return nil
}

// indexOptions are the fields of an index specification that MongoDB knows.
var indexOptions = []string{"2dsphereIndexVersion", "background", "bits", "clustered", "collation", "default_language", "expireAfterSeconds", "hidden", "key",
	"language_override", "max", "min", "name", "ns", "partialFilterExpression", "prepareUnique", "sparse", "storageEngine", "textIndexVersion", "unique", "v", "weights", "wildcardProjection"}

// knownIndexOptions drops the fields of specifications that MongoDB does not know.
func knownIndexOptions(specs []bson.Raw) []bson.Raw {
	out := make([]bson.Raw, len(specs))
	for i, s := range specs {
		b := bson.NewBuilder(nil)
		for k, v := range s.Elems() {
			if slices.Contains(indexOptions, k) {
				b.Append(k, v)
			}
		}
		out[i] = b.Finish()
	}
	return out
}
