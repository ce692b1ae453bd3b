package node

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/expr"
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
		if errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), "no space left") {
			return mongoerr.New(mongoerr.OutOfDiskSpace, "the disk is full and the store is read-only: free space and restart the server (%v)", err)
		}
		return mongoerr.New(mongoerr.OperationFailed, "the store failed and is read-only: look after the disk and restart the server (%v)", err)
	case errors.Is(err, storage.ErrCorruption):
		return mongoerr.New(mongoerr.DataCorruptionDetected, "%v", err)
	case errors.Is(err, storage.ErrClosed):
		return mongoerr.New(mongoerr.InterruptedAtShutdown, "interrupted at shutdown")
	}
	return mapFileError(err)
}

// mapFileError tells that a file could not be read, or a temporary one not be written:
// this operation's end, not the store's.
func mapFileError(err error) *mongoerr.Error {
	var errno syscall.Errno
	var path *fs.PathError
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return mongoerr.New(mongoerr.OutOfDiskSpace, "the disk is full: %v", err)
	case errors.As(err, &errno), errors.As(err, &path):
		return mongoerr.New(mongoerr.FileStreamFailed, "a file of the store could not be used: %v", err)
	}
	return nil
}

// compileFilter compiles filters that outlive an operation (validators, partial
// indexes): many goroutines use one at once, so each evaluation of a $expr borrows an
// environment.
func compileFilter(filter bson.Raw, coll *collate.Collator) (*match.Matcher, error) {
	return match.Compile(filter.Clone(), match.Options{Collation: coll, Expr: func(v bson.Value) (match.ExprFunc, error) {
		pc := expr.NewParseContext()
		pc.Collation = coll
		e, err := expr.Parse(v, pc)
		if err == nil {
			e, err = e.Optimize()
		}
		if err != nil {
			return nil, err
		}
		envs := sync.Pool{New: func() any { return &expr.Env{Rand: rand.Float64} }}
		return func(doc bson.Raw) (bson.Value, error) {
			env := envs.Get().(*expr.Env)
			defer envs.Put(env)
			env.Now = bson.NewDateTime(time.Now())
			env.Reset(doc)
			val, err := e.Eval(env)
			return bson.V(val.Truthy()), err
		}, nil
	}})
}

// compileMatch compiles a filter for documents that stand in no collection.
func compileMatch(filter bson.Raw) (func(bson.Raw) (bool, error), error) {
	m, err := compileFilter(filter, nil)
	if err != nil {
		return nil, err
	}
	return m.Match, nil
}
