package command

import (
	"strings"

	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

// validDBName checks a database name as it comes with a command.
func validDBName(db string) error {
	if db == "" || len(db) > 63 || strings.ContainsAny(db, "/\\. \"$\x00") {
		if db == "$external" {
			return nil
		}
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid database name: '%s'", db)
	}
	return nil
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
