package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// Collection is one collection of a catalog.
type Collection struct {
	DB, Name string
	// UUID is its identity, zero on servers that have none.
	UUID bson.UUID
	// Type is "collection", or "timeseries" for the view on buckets that has no data itself.
	Type    string
	Options bson.Raw
	Indexes []bson.Raw
	// Gone tells that it was dropped after the moment of the catalog: its documents are not
	// to be had, and not needed, as the oplog drops it.
	Gone bool
}

// Namespace is db.collection.
func (c *Collection) Namespace() string { return c.DB + "." + c.Name }

// Marshal is the collection as a document, with what add appends to it.
func (c *Collection) Marshal(add func(b *bson.Builder)) bson.Raw {
	b := bson.NewBuilder(nil)
	b.Str("db", c.DB).Str("name", c.Name).Str("type", c.Type)
	if c.UUID != (bson.UUID{}) {
		b.UUID("uuid", c.UUID)
	}
	b.AppendDoc("options", orEmpty(c.Options))
	b.Array("indexes")
	for _, spec := range c.Indexes {
		b.AppendDoc("", spec)
	}
	b.End().Bool("gone", c.Gone)
	if add != nil {
		add(b)
	}
	return b.Finish()
}

func orEmpty(r bson.Raw) bson.Raw {
	if r == nil {
		return bson.Empty
	}
	return r
}

// Unmarshal reads what Marshal wrote. It aliases raw.
func Unmarshal(raw bson.Raw) (Collection, error) {
	c := Collection{DB: raw.Get("db").Str(), Name: raw.Get("name").Str(), Type: raw.Get("type").Str(),
		Options: raw.Get("options").Doc(), Gone: raw.Get("gone").Bool()}
	if c.DB == "" || c.Name == "" {
		return c, errors.New("a collection of the backup's catalog has no name")
	}
	c.UUID, _ = raw.Get("uuid").UUID()
	for v := range raw.Get("indexes").Doc().Values() {
		c.Indexes = append(c.Indexes, v.Doc())
	}
	return c, nil
}

// Reader reads one server.
type Reader struct {
	Client *mongo.Client
	// Majority reads documents with read concern majority, as a replica set allows: what
	// is read can then not be rolled back.
	Majority bool
}

// Catalog lists what a full backup copies: the collections of all databases but local and
// the server's own bookkeeping, ordered by namespace. Views are documents of system.views.
func (r *Reader) Catalog(ctx context.Context) ([]Collection, error) {
	raw, err := r.run(ctx, "admin", bson.D("listDatabases", 1, "nameOnly", true))
	if err != nil {
		return nil, fmt.Errorf("listing the databases: %w", err)
	}
	var all []Collection
	for v := range raw.Get("databases").Doc().Values() {
		db := strings.Clone(v.Doc().Get("name").Str())
		colls, err := r.list(ctx, db, bson.Empty)
		if err != nil {
			return nil, fmt.Errorf("listing the collections of %s: %w", db, err)
		}
		for _, c := range colls {
			if !copied(db, c.Name) || c.Type == "view" {
				continue
			}
			if c.Type != "timeseries" {
				if c.Indexes, err = r.indexes(ctx, &c); err != nil {
					return nil, err
				}
			}
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b Collection) int { return strings.Compare(a.Namespace(), b.Namespace()) })
	return all, nil
}

// systemCollections are those with the prefix system. that hold users' data.
var systemCollections = map[string]bool{"system.js": true, "system.views": true, "system.users": true, "system.roles": true}

// copied says whether a backup holds the collection's documents.
func copied(db, coll string) bool {
	e := entry.Entry{Kind: entry.Insert, DB: db, Coll: coll}
	if class, _ := e.Class(); class != entry.Apply {
		return false
	}
	if strings.HasPrefix(coll, "system.") && !strings.HasPrefix(coll, "system.buckets.") {
		return systemCollections[coll] && (db == "admin" || coll == "system.js" || coll == "system.views")
	}
	return true
}

func (r *Reader) run(ctx context.Context, db string, cmd bson.Raw) (bson.Raw, error) {
	raw, err := r.Client.Database(db).RunCommand(ctx, dbson.Raw(cmd)).Raw()
	return bson.Raw(raw), err
}

func (r *Reader) list(ctx context.Context, db string, filter bson.Raw) ([]Collection, error) {
	cur, err := r.Client.Database(db).RunCommandCursor(ctx, dbson.Raw(bson.D("listCollections", 1, "filter", filter)))
	if err != nil {
		return nil, err
	}
	defer cur.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the server ends idle cursors by itself
	var all []Collection
	for cur.Next(ctx) {
		raw := bson.Raw(cur.Current).Clone()
		c := Collection{DB: db, Name: raw.Get("name").Str(), Type: raw.Get("type").Str(), Options: orEmpty(raw.Get("options").Doc())}
		if c.Type == "" {
			c.Type = "collection"
		}
		c.UUID, _ = raw.Path("info.uuid").UUID()
		all = append(all, c)
	}
	return all, cur.Err()
}

func (r *Reader) indexes(ctx context.Context, c *Collection) ([]bson.Raw, error) {
	db := r.Client.Database(c.DB)
	// Without the UUIDs of builds an index that is being built looks like any other.
	cur, err := db.RunCommandCursor(ctx, dbson.Raw(bson.D("listIndexes", c.Name, "includeBuildUUIDs", true)))
	if isCode(err, unknownField) { // a server that builds indexes in no way that the oplog tells of
		cur, err = db.RunCommandCursor(ctx, dbson.Raw(bson.D("listIndexes", c.Name)))
	}
	if isCode(err, namespaceNotFound, viewNotSupported) {
		return nil, nil // dropped since it was listed: the oplog tells
	}
	if err != nil {
		return nil, fmt.Errorf("listing the indexes of %s: %w", c.Namespace(), err)
	}
	defer cur.Close(context.WithoutCancel(ctx)) //nolint:errcheck // as above
	var specs []bson.Raw
	for cur.Next(ctx) {
		spec := bson.Raw(cur.Current)
		if spec.Has("buildUUID") { // under way; the oplog tells when it is there
			continue
		}
		specs = append(specs, spec.Clone())
	}
	return specs, cur.Err()
}

// Codes of servers' errors.
const (
	namespaceNotFound = 26
	cursorNotFound    = 43
	viewNotSupported  = 166
	queryPlanKilled   = 175
	unknownField      = 40415
)

func isCode(err error, codes ...int) bool {
	var se mongo.ServerError
	if !errors.As(err, &se) {
		return false
	}
	return slices.ContainsFunc(codes, se.HasErrorCode)
}
