package command

import (
	"strings"

	"github.com/cairndb/cairn/internal/mongoerr"
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
