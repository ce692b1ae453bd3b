package dump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/tool"
	raw "github.com/cairndb/cairn/internal/bson"
)

// configKept are the collections of the config database that a dump of everything keeps.
var configKept = []string{"chunks", "collections", "databases", "settings", "shards", "tags", "version"}

// internalPrefix begins the names of databases that MongoDB keeps for itself.
const internalPrefix = "__mdb_internal"

// skipSystem says whether a collection is a system collection that is not dumped.
func skipSystem(db, coll, wanted string) bool {
	switch db {
	case "admin":
		if coll == "system.keys" {
			return true
		}
	case "config":
		return wanted != "config" && !slices.Contains(configKept, coll)
	default:
		if coll == "system.js" {
			return false
		}
		if strings.HasPrefix(coll, "system.") {
			return true
		}
	}
	return strings.Contains(coll, "$") && !strings.Contains(coll, ".oplog.$")
}

func (d *Dump) excluded(coll string) bool {
	if slices.Contains(d.opts.Output.Excluded, coll) {
		return true
	}
	return slices.ContainsFunc(d.opts.Output.ExcludedPrefixes, func(p string) bool { return strings.HasPrefix(coll, p) })
}

func resharding(coll string) bool {
	return coll == "reshardingOperations" || coll == "localReshardingOperations.donor" || coll == "localReshardingOperations.recipient"
}

// collInfo is one entry of listCollections.
type collInfo struct {
	Name    string   `bson:"name"`
	Type    string   `bson:"type"`
	Options bson.Raw `bson:"options"`
	Info    struct {
		UUID bson.RawValue `bson:"uuid"`
	} `bson:"info"`
}

func (c *collInfo) uuid() []byte {
	if sub, b, ok := c.Info.UUID.BinaryOK(); ok && sub == 4 {
		return bytes.Clone(b)
	}
	return nil
}

func (d *Dump) listCollections(ctx context.Context, db string, filter bson.D) ([]collInfo, error) {
	cur, err := d.client.Database(db).ListCollections(ctx, filter)
	if err != nil {
		return nil, err
	}
	defer cur.Close(context.WithoutCancel(ctx))
	var l []collInfo
	for cur.Next(ctx) {
		var c collInfo
		if err := cur.Decode(&c); err != nil {
			return nil, fmt.Errorf("error decoding collection info: %v", err)
		}
		c.Options = bytes.Clone(c.Options)
		c.Info.UUID.Value = bytes.Clone(c.Info.UUID.Value)
		l = append(l, c)
	}
	return l, cur.Err()
}

// collectionInfo returns what the server says of one collection, nil if there is none.
func (d *Dump) collectionInfo(ctx context.Context, db, coll string) (*collInfo, error) {
	l, err := d.listCollections(ctx, db, bson.D{{Key: "name", Value: coll}})
	if err != nil || len(l) == 0 {
		return nil, err
	}
	return &l[0], nil
}

// createIntents finds what the options want. With a tail, a collection that is dropped
// after the tail began and before it could be listed has entries in the oplog and no copy
// that they could be applied to. Then the tail begins again, a few times; on a server on
// which collections come and go all the time, such a collection gets an empty copy, which
// the oplog then drops.
func (d *Dump) createIntents(ctx context.Context) error {
	for try := 0; ; try++ {
		if err := d.listIntents(ctx); err != nil || d.tail == nil {
			return err
		}
		have := map[raw.UUID]bool{}
		for _, i := range append(d.man.all(), d.state.kept()...) {
			if len(i.uuid) == 16 {
				have[raw.UUID(i.uuid)] = true
			}
		}
		lost := d.tail.vanished(have)
		if len(lost) == 0 {
			return nil
		}
		if try < 5 && d.state.fresh() {
			d.log.Info("%s dropped while the dump began: it begins again", tool.Count(len(lost), "collection was", "collections were"))
			if err := d.tail.restart(ctx); err != nil {
				return err
			}
			d.man = newManager()
			continue
		}
		for id, ns := range lost {
			i := &intent{uuid: id[:], kind: "collection", hasData: true, phantom: true, dropped: true}
			i.db, i.coll, _ = strings.Cut(ns, ".")
			i.location = d.path(i.db, i.coll) + ".bson" + d.method.suffix()
			d.man.put(i)
		}
		return nil
	}
}

func (d *Dump) listIntents(ctx context.Context) error {
	db, coll := d.opts.Namespace.DB, d.opts.Namespace.Collection
	switch {
	case db == "":
		dbs, err := d.databases(ctx)
		if err != nil {
			return err
		}
		for _, name := range dbs {
			if err := d.intentsOf(ctx, name); err != nil {
				return fmt.Errorf("error creating intents for database %#q: %w", name, err)
			}
		}
		return nil
	case coll == "":
		return d.intentsOf(ctx, db)
	}
	if d.excluded(coll) {
		d.log.Debug("skipping dump of %#q, it is excluded", db+"."+coll)
		return nil
	}
	ci, err := d.collectionInfo(ctx, db, coll)
	if err != nil {
		return fmt.Errorf("error getting collection options: %v", err)
	}
	if ci == nil { // it was there a moment ago
		d.log.Always("the collection %#q appears to have been dropped after the dump started", db+"."+coll)
		return nil
	}
	if err := d.namesAreKnown(ctx); err != nil {
		return err
	}
	if i := d.newIntent(db, ci); i != nil {
		return d.addIntents(ctx, i)
	}
	return nil
}

// namesAreKnown waits until the tail has seen everything that was done to the collections
// that were just listed.
func (d *Dump) namesAreKnown(ctx context.Context) error {
	if d.tail == nil {
		return nil
	}
	_, err := d.tail.catchUp(ctx)
	return err
}

// databases lists the databases of a dump of everything.
func (d *Dump) databases(ctx context.Context) ([]string, error) {
	names, err := d.client.ListDatabaseNames(ctx, bson.D{})
	if err != nil {
		return nil, fmt.Errorf("error getting database names: %v", err)
	}
	var dbs []string
	for _, name := range names {
		if err := tool.ValidateDBName(name); err != nil {
			return nil, fmt.Errorf("validating database name %#q: %w", name, err)
		}
		switch {
		case strings.HasPrefix(name, internalPrefix):
			d.log.Always("excluding MongoDB internal database %#q", name)
		case name == "local", name == "admin" && d.server.Atlas:
		default:
			dbs = append(dbs, name)
		}
	}
	return dbs, nil
}

func (d *Dump) intentsOf(ctx context.Context, db string) error {
	l, err := d.listCollections(ctx, db, bson.D{})
	if err != nil {
		return fmt.Errorf("error getting collections for database %#q: %w", db, err)
	}
	if err := d.namesAreKnown(ctx); err != nil {
		return err
	}
	var wanted []*intent
	for n := range l {
		ci := &l[n]
		ns := db + "." + ci.Name
		switch {
		case db == "config" && d.opts.Output.Oplog && resharding(ci.Name):
			return errors.New("detected resharding in progress. Cannot dump with --oplog while resharding")
		case skipSystem(db, ci.Name, d.opts.Namespace.DB):
			d.log.DebugHigh("will not dump system collection %#q", ns)
			continue
		case d.excluded(ci.Name):
			d.log.Debug("skipping dump of %#q, it is excluded", ns)
			continue
		case d.opts.Output.ViewsAsCollections && ci.Type != "view":
			d.log.Debug("skipping dump of %#q because it is not a view", ns)
			continue
		}
		if i := d.newIntent(db, ci); i != nil {
			wanted = append(wanted, i)
		}
	}
	return d.addIntents(ctx, wanted...)
}

// addIntents asks how large the collections are, and puts them in.
func (d *Dump) addIntents(ctx context.Context, wanted ...*intent) error {
	err := d.each(ctx, len(wanted), func(ctx context.Context, n int) error {
		i := wanted[n]
		if i.isView() || i.isTimeseries() {
			return nil
		}
		var err error
		if i.size, err = d.estimate(ctx, i.db, i.liveColl()); err != nil {
			return fmt.Errorf("error counting %v: %v", i.namespace(), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, i := range wanted {
		d.log.Debug("enqueued collection %#q", i.namespace())
		d.man.put(i)
	}
	return nil
}

// newIntent makes the intent of a collection, nil if there is nothing to copy. With a tail,
// its name is the one it had when the tail began.
func (d *Dump) newIntent(db string, ci *collInfo) *intent {
	i := &intent{db: db, coll: ci.Name, options: ci.Options, kind: ci.Type, uuid: ci.uuid(), hasData: true}
	if d.follows(i) {
		name, there := d.tail.nameAtStart(i.uuid, db, ci.Name)
		if !there {
			d.log.Debug("not copying %#q, which came after the dump started: all of it is in the oplog", i.namespace())
			return nil
		}
		if name != ci.Name {
			d.log.Info("%#q was called %#q when the dump started, and is stored under that name", i.namespace(), db+"."+name)
			i.live, i.coll = ci.Name, name
		}
	}
	out := &d.opts.Output
	i.buckets = i.isTimeseries() && !d.server.RawData()
	switch {
	case out.Out == "-":
	case out.Archive == "-":
		i.location = "archive on stdout"
	case out.Archive != "":
		i.location = fmt.Sprintf("archive %#q", out.Archive)
	case i.isView() && !out.ViewsAsCollections && !i.buckets:
		d.log.Debug("not dumping data for %#q because it is a view", i.namespace())
		i.hasData = false
	default:
		i.location = d.path(db, i.dataColl()) + ".bson" + d.method.suffix()
	}
	if out.Out != "-" && out.ViewsAsCollections && i.isView() {
		i.options = without(i.options, "viewOn", "pipeline")
	}
	return i
}

// estimate is the number of documents by the collection's statistics.
func (d *Dump) estimate(ctx context.Context, db, coll string) (int64, error) {
	d.log.DebugHigh("Getting estimated count for %#q", db+"."+coll)
	n, err := d.client.Database(db).Collection(coll).EstimatedDocumentCount(ctx)
	if err != nil && isGone(err) {
		return 0, nil
	}
	return n, err
}

// path is a collection's file without the extension.
func (d *Dump) path(db, coll string) string {
	return filepath.Join(d.opts.root(), db, tool.EscapeNameFor(coll, d.method.suffix()))
}

// without returns a document less some fields.
func without(doc bson.Raw, keys ...string) bson.Raw {
	var v bson.D
	if bson.Unmarshal(doc, &v) != nil {
		return doc
	}
	v = slices.DeleteFunc(v, func(e bson.E) bool { return slices.Contains(keys, e.Key) })
	out, err := bson.Marshal(v)
	if err != nil {
		return doc
	}
	return out
}

// createUsersIntents adds the three files that --dumpDbUsersAndRoles makes in a
// database's directory.
func (d *Dump) createUsersIntents(db string) {
	for _, coll := range []string{"system.users", "system.roles", "system.version"} {
		i := &intent{db: db, coll: "$admin." + coll, hasData: true}
		if d.opts.Output.Archive == "" {
			i.location = filepath.Join(d.opts.root(), db, i.coll+".bson"+d.method.suffix())
		}
		d.man.put(i)
	}
}

// checkAuthSchema refuses --dumpDbUsersAndRoles where there is nothing it could dump.
func (d *Dump) checkAuthSchema(ctx context.Context) error {
	v, err := d.authVersion(ctx)
	if err == nil {
		err = d.verifyAuthVersion(ctx)
	}
	if err != nil {
		return fmt.Errorf("error getting auth schema version for dumpDbUsersAndRoles: %v", err)
	}
	d.log.Debug("using auth schema version %v", v)
	if v < 3 {
		return fmt.Errorf("backing up users and roles is only supported for deployments with auth schema versions >= 3, found: %v", v)
	}
	return nil
}

func (d *Dump) authVersion(ctx context.Context) (int64, error) {
	raw, err := d.client.Database("admin").RunCommand(ctx, bson.D{{Key: "getParameter", Value: 1}, {Key: "authSchemaVersion", Value: 1}}).Raw()
	if err != nil {
		if s := err.Error(); strings.Contains(s, "no option found to get") || strings.Contains(s, "no such cmd") {
			return 1, nil // servers from before there were versions
		}
		return 0, err
	}
	v := raw.Lookup("authSchemaVersion")
	n, ok := v.AsInt64OK()
	if !ok {
		return 0, fmt.Errorf("getParameter command returned non-numeric result: %v", v)
	}
	return n, nil
}

// verifyAuthVersion looks for the document that says users were ever made; servers from
// 8.1 on have none, there a user or role must exist.
func (d *Dump) verifyAuthVersion(ctx context.Context) error {
	admin := d.client.Database("admin")
	if !d.server.AtLeast(8, 1, 0) {
		n, err := admin.Collection("system.version").CountDocuments(ctx, bson.D{{Key: "_id", Value: "authSchema"}})
		if err != nil {
			return fmt.Errorf("error checking presence of auth version: %w", err)
		}
		if n == 0 {
			return errors.New("found no auth version")
		}
		return nil
	}
	for _, coll := range []string{"system.users", "system.roles"} {
		err := admin.Collection(coll).FindOne(ctx, bson.D{}).Err()
		if err == nil {
			return nil
		}
		if !errors.Is(err, mongo.ErrNoDocuments) {
			return fmt.Errorf("error checking %s: %w", coll, err)
		}
	}
	return errors.New("no users / roles exist")
}
