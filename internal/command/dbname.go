package command

import (
	"strings"

	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

// validDBName checks a database name as it comes with a command.
func validDBName(db string) error {
	if db == "$external" { // the database of users that are known elsewhere
		return nil
	}
	return catalog.ValidateDBName(db)
}

// splitNS cuts "db.collection" and checks both halves.
func splitNS(ns string) (query.Namespace, error) {
	db, coll, ok := strings.Cut(ns, ".")
	if !ok || coll == "" {
		return query.Namespace{}, mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s'", ns)
	}
	if err := validDBName(db); err != nil {
		return query.Namespace{}, err
	}
	return query.Namespace{DB: db, Coll: coll}, nil
}
