package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
)

// Namespace is a database and a collection name; Coll is "" for db.aggregate.
type Namespace struct{ DB, Coll string }

// String returns "db.collection".
func (n Namespace) String() string { return n.DB + "." + n.Coll }

// Iterator gives documents until it returns nil without an error. What Next returned
// is valid until the following call.
type Iterator interface {
	Next(ctx context.Context) (bson.Raw, error)
	Close() error
}

// Sorter sorts pairs by key within bounded memory, equal keys in the order in which
// they were added. storage.Sorter behind a thin adapter is one.
type Sorter interface {
	Add(key, value []byte) error
	Sorted() (Pairs, error)
	Spilled() int64
	Close() error
}

// Pairs walks the result of a Sorter; Key and Value are valid until the next move.
type Pairs interface {
	Next() bool
	Key() []byte
	Value() []byte
	Err() error
	Close() error
}

// MergeWrite is one document of $merge as an upsert-like update.
type MergeWrite struct {
	Q              bson.Raw
	U              bson.Value // replacement document, update document or pipeline
	Constants      bson.Raw   // variables of a pipeline: {new: document} and $merge's let
	Upsert         bool
	UpsertSupplied bool // insert Constants' `new` as it is if nothing matches
}

// OutWriter replaces a collection at once.
type OutWriter interface {
	Insert(ctx context.Context, docs []bson.Raw) error
	Commit(ctx context.Context) error
	Abort()
}

// Host is what pipelines need of the rest of the server. The query layer implements it.
type Host interface {
	// Open runs p on a namespace: it resolves views, splits off the find and plans it.
	Open(ctx context.Context, ns Namespace, p *Pipeline, env *expr.Env) (Iterator, error)
	// NewSorter returns a sorter that keeps up to maxMemory bytes in memory.
	NewSorter(maxMemory int64) Sorter

	// BeginOut starts the replacement of a collection, for $out.
	BeginOut(ctx context.Context, ns Namespace) (OutWriter, error)
	// Insert inserts for $merge; a duplicate key is an error.
	Insert(ctx context.Context, ns Namespace, docs []bson.Raw) error
	// Update runs updates for $merge and returns how many documents each matched or
	// upserted.
	Update(ctx context.Context, ns Namespace, writes []MergeWrite) ([]int64, error)
	// HasUniqueIndex reports whether exactly these fields have a unique index that is
	// neither partial nor sparse; fields are sorted.
	HasUniqueIndex(ctx context.Context, ns Namespace, fields []string) (bool, error)

	// CollStats returns the document of $collStats for its specification.
	CollStats(ctx context.Context, ns Namespace, spec bson.Raw) (bson.Raw, error)
	// IndexStats returns a document for each index.
	IndexStats(ctx context.Context, ns Namespace) ([]bson.Raw, error)
	// PlanCacheStats returns a document for each remembered plan.
	PlanCacheStats(ctx context.Context, ns Namespace) ([]bson.Raw, error)
	// CurrentOp returns the running operations.
	CurrentOp(ctx context.Context, spec bson.Raw) ([]bson.Raw, error)
	// Sessions returns {_id: {id, uid}, lastUse} for each session that is kept alive.
	Sessions(ctx context.Context) ([]bson.Raw, error)
}

// Options of parsing and running a pipeline.
type Options struct {
	NS Namespace
	// Expr knows the variables of `let` and the collation; nil means neither.
	Expr *expr.ParseContext
	// Env evaluates expressions: time, random numbers, interrupt and the values of
	// `let` are the caller's to set. Filters and projections of the query layer that
	// use Expr must be evaluated in an Env with the same variables.
	Env  *expr.Env
	Host Host
	// AllowDiskUse lets blocking stages spill.
	AllowDiskUse bool
	// NoWrites refuses $out and $merge (explain, views).
	NoWrites bool
	// APIStrict refuses stages outside version 1 of the API.
	APIStrict bool
}
