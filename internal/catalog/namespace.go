package catalog

import (
	"strings"

	"github.com/cairndb/cairn/internal/mongoerr"
)

// Namespace is a database and a collection name.
type Namespace struct{ DB, Coll string }

// String returns "db.collection".
func (n Namespace) String() string { return n.DB + "." + n.Coll }

// ParseNamespace cuts "db.collection" at the first dot.
func ParseNamespace(s string) (Namespace, bool) {
	db, coll, ok := strings.Cut(s, ".")
	return Namespace{db, coll}, ok && db != "" && coll != ""
}

// Lengths that MongoDB allows.
const (
	MaxDBName    = 63
	MaxNamespace = 255
)

// The collections that are no ordinary ones.
const (
	SystemViews    = "system.views"
	SystemProfile  = "system.profile"
	SystemJS       = "system.js"
	SystemBuckets  = "system.buckets."
	LocalDB        = "local"
	AdminDB        = "admin"
	ConfigDB       = "config"
	OplogColl      = "oplog.rs"
	OplogMainColl  = "oplog.$main" // a read-only alias of OplogColl, which mongodump reads on a standalone
	StartupLogColl = "startup_log"
)

// Oplog is the namespace of the log.
var Oplog = Namespace{LocalDB, OplogColl}

// IsOplog reports whether n is the log or its alias.
func (n Namespace) IsOplog() bool {
	return n.DB == LocalDB && (n.Coll == OplogColl || n.Coll == OplogMainColl)
}

// IsLocal reports whether n is in the database that makes no oplog entries.
func (n Namespace) IsLocal() bool { return n.DB == LocalDB }

// IsSystem reports whether n is one of MongoDB's own collections.
func (n Namespace) IsSystem() bool { return strings.HasPrefix(n.Coll, "system.") }

// logged reports whether writes to n make oplog entries and its tables are the same
// on every member. system.profile is each member's own.
func (n Namespace) logged() bool { return !n.IsLocal() && n.Coll != SystemProfile }

// ValidateDBName checks a database name.
func ValidateDBName(db string) error {
	ok := db != "" && len(db) <= MaxDBName
	for i := 0; ok && i < len(db); i++ {
		switch db[i] {
		case '/', '\\', '.', ' ', '"', '$', 0:
			ok = false
		}
	}
	if !ok {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid database name: '%s'", db)
	}
	return nil
}

// ValidateNamespace checks a namespace that is only looked up: well-formed, whether
// or not a collection of that name may be made.
func ValidateNamespace(n Namespace) error {
	if err := ValidateDBName(n.DB); err != nil {
		return err
	}
	if n.Coll == "" || n.Coll[0] == '.' || strings.IndexByte(n.Coll, 0) >= 0 {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s'", n)
	}
	return nil
}

// ValidateCreate checks the name of a collection that is to be made.
func ValidateCreate(n Namespace) error {
	if err := ValidateNamespace(n); err != nil {
		return err
	}
	if strings.IndexByte(n.Coll, '$') >= 0 || n.Coll[len(n.Coll)-1] == '.' || strings.Contains(n.Coll, "..") {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid collection name: %s", n.Coll)
	}
	if n.IsOplog() {
		return mongoerr.New(mongoerr.InvalidNamespace, "cannot write to '%s'", n)
	}
	if n.IsSystem() && !legalSystem(n) {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid system namespace: %s", n)
	}
	if len(n.DB)+1+len(n.Coll) > MaxNamespace {
		return mongoerr.New(mongoerr.InvalidNamespace, "Fully qualified namespace is too long. Namespace: %s Max: %d", n, MaxNamespace)
	}
	return nil
}

// systemColls are the names under system. that may be made, by database; "" is any.
var systemColls = map[string][]string{
	"":       {SystemViews, SystemProfile, SystemJS, "system.users"},
	AdminDB:  {"system.roles", "system.version", "system.new_users", "system.backup_users", "system.keys"},
	ConfigDB: {"system.sessions", "system.indexBuilds", "system.preimages"},
	LocalDB:  {"system.replset", "system.healthlog", "system.rollback.id"},
}

func legalSystem(n Namespace) bool {
	if strings.HasPrefix(n.Coll, SystemBuckets) {
		return true
	}
	for _, db := range []string{"", n.DB} {
		for _, c := range systemColls[db] {
			if c == n.Coll {
				return true
			}
		}
	}
	return false
}

// ValidateWritable refuses namespaces that clients cannot write documents to.
func ValidateWritable(n Namespace) error {
	if err := ValidateNamespace(n); err != nil {
		return err
	}
	if n.IsOplog() || n.Coll == SystemProfile || n.Coll == SystemViews {
		return mongoerr.New(mongoerr.InvalidNamespace, "cannot write to '%s'", n) // views are made by create and changed by collMod
	}
	return nil
}
