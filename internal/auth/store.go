package auth

import (
	"context"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// The collections of the store.
var (
	usersNS   = catalog.Namespace{DB: adminDB, Coll: "system.users"}
	rolesNS   = catalog.Namespace{DB: adminDB, Coll: "system.roles"}
	versionNS = catalog.Namespace{DB: adminDB, Coll: "system.version"}
)

// SchemaVersion is the format of the stored users and roles (authSchemaVersion).
const SchemaVersion = 5

// FeatureCompatibilityVersion is the feature set that the server speaks.
const FeatureCompatibilityVersion = "8.0"

// Store is the users and roles of a server. Its methods may be called concurrently.
type Store struct {
	cat  *catalog.Catalog
	busy chan struct{} // held by a change: what it checks stays so until it is done
}

// New returns the store in cat.
func New(cat *catalog.Catalog) *Store { return &Store{cat: cat, busy: make(chan struct{}, 1)} }

// Request is one command on users or roles.
type Request struct {
	Command string   // its name, for messages
	DB      string   // that it was sent to
	Body    bson.Raw // with the command's own name first
}

// OpTime is the place of a change in the log, null if nothing changed.
type OpTime = catalog.OpTime

func (r *Request) arg(name string) bson.Value { return r.Body.Get(name) }

func (r *Request) has(name string) bool { return !r.arg(name).IsNullish() }

// target is the name that a command is about.
func (r *Request) target() (Name, error) {
	_, v := r.Body.First()
	if v.Type != bson.TypeString {
		return Name{}, wrongType(r.Command+"."+r.Command, v, "string")
	}
	return Name{strings.Clone(v.Str()), strings.Clone(r.DB)}, nil
}

// roles is the roles argument.
func (r *Request) roles() ([]Name, error) {
	return ParseRoles(r.Command+".roles", r.DB, r.arg("roles"))
}

// edit is a change under way.
type edit struct {
	*catalog.Edit
	roles graph
}

// change runs fn with the store to itself; what fn does happens as a whole.
func (s *Store) change(ctx context.Context, fn func(e *edit) error) (OpTime, error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return OpTime{}, context.Cause(ctx)
	}
	if err := s.ensure(ctx); err != nil {
		return OpTime{}, err
	}
	return s.cat.Edit(ctx, []catalog.Namespace{usersNS, rolesNS, versionNS}, func(ce *catalog.Edit) error {
		docs, err := ce.All(rolesNS)
		if err != nil {
			return err
		}
		return fn(&edit{ce, newGraph(docs)})
	})
}

// ensure makes the collections with their indexes, and notes the format in which users
// and roles are stored, before the first of them.
func (s *Store) ensure(ctx context.Context) error {
	for _, c := range []struct {
		ns  catalog.Namespace
		key bson.Raw
		ix  string
	}{
		{usersNS, bson.D("user", 1, "db", 1), "user_1_db_1"},
		{rolesNS, bson.D("role", 1, "db", 1), "role_1_db_1"},
	} {
		if s.cat.Pin().Lookup(c.ns) != nil {
			continue
		}
		if _, err := s.cat.CreateIndexes(ctx, c.ns, []bson.Raw{bson.D("v", 2, "unique", true, "key", c.key, "name", c.ix)}); err != nil {
			return err
		}
	}
	return s.ensureVersion(ctx, bson.D("_id", "authSchema", "currentVersion", SchemaVersion))
}

// EnsureFeatureVersion notes in admin.system.version which feature set the data are of,
// if nothing is noted there.
func (s *Store) EnsureFeatureVersion(ctx context.Context) error {
	return s.ensureVersion(ctx, featureVersion)
}

var featureVersion = bson.D("_id", "featureCompatibilityVersion", "version", FeatureCompatibilityVersion)

// SetFeatureVersion writes the feature set down again, whatever stood there.
func (s *Store) SetFeatureVersion(ctx context.Context) (OpTime, error) {
	if err := s.createVersion(ctx); err != nil {
		return OpTime{}, err
	}
	return s.cat.Edit(ctx, []catalog.Namespace{versionNS}, func(e *catalog.Edit) error { return e.Put(versionNS, featureVersion) })
}

func (s *Store) createVersion(ctx context.Context) error {
	if s.cat.Pin().Lookup(versionNS) != nil {
		return nil
	}
	_, err := s.cat.Create(ctx, versionNS, bson.Empty)
	return err
}

func (s *Store) ensureVersion(ctx context.Context, doc bson.Raw) error {
	if err := s.createVersion(ctx); err != nil {
		return err
	}
	if have, err := s.cat.One(versionNS, doc.Get("_id")); have != nil || err != nil {
		return err
	}
	_, err := s.cat.Edit(ctx, []catalog.Namespace{versionNS}, func(e *catalog.Edit) error {
		if have, err := e.Get(versionNS, doc.Get("_id")); have != nil || err != nil {
			return err
		}
		return e.Put(versionNS, doc)
	})
	return err
}

// user reads a user that has to be there.
func (e *edit) user(n Name) (bson.Raw, error) {
	doc, err := e.Get(usersNS, n.id())
	if err == nil && doc == nil {
		err = mongoerr.New(mongoerr.UserNotFound, "User '%s' not found", n)
	}
	return doc, err
}
