package node

import (
	"errors"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/storage"
)

const interruptedAtShutdown = mongoerr.InterruptedAtShutdown

// mapError gives clients' errors for the marks of the rooms below.
func mapError(err error) *mongoerr.Error {
	switch {
	case errors.Is(err, storage.ErrWriteConflict):
		return mongoerr.New(mongoerr.WriteConflict, "Caused by :: Write conflict during plan execution and yielding is disabled. :: Please retry your operation or multi-document transaction.").WithLabels("TransientTransactionError")
	case errors.Is(err, storage.ErrReadOnly):
		if strings.Contains(err.Error(), "no space left") {
			return mongoerr.New(mongoerr.OutOfDiskSpace, "the disk is full and the store is read-only: free space and restart the server (%v)", err)
		}
		return mongoerr.New(mongoerr.OperationFailed, "the store failed and is read-only: look after the disk and restart the server (%v)", err)
	case errors.Is(err, storage.ErrCorruption):
		return mongoerr.New(mongoerr.DataCorruptionDetected, "%v", err)
	case errors.Is(err, storage.ErrClosed):
		return mongoerr.New(mongoerr.InterruptedAtShutdown, "interrupted at shutdown")
	}
	return nil
}

// parseExpr gives the filter language the expression language, for $expr.
func compileFilter(filter bson.Raw) (*match.Matcher, error) {
	return match.Compile(filter, match.Options{Expr: query.ExprParser})
}

// compileMatch compiles a filter for documents that stand in no collection.
func compileMatch(filter bson.Raw) (func(bson.Raw) (bool, error), error) {
	m, err := compileFilter(filter)
	if err != nil {
		return nil, err
	}
	return m.Match, nil
}
