package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/cairndb/cairn/internal/backup/pitr/docsum"
	"github.com/cairndb/cairn/internal/bson"
)

// ErrMoved is a collection that was renamed or dropped while it was read: what was read of it
// is to be thrown away, and the collection to be read again where Locate finds it.
var ErrMoved = errors.New("the collection was renamed or dropped while it was read")

// Locate returns the name that a collection has now, ok false if it was dropped. A
// collection without a UUID is taken to be where it was.
func (r *Reader) Locate(ctx context.Context, c *Collection) (name string, ok bool, err error) {
	if c.UUID == (bson.UUID{}) {
		colls, err := r.list(ctx, c.DB, bson.D("name", c.Name))
		return c.Name, len(colls) > 0, err
	}
	// A filter by info.uuid is not known to every server; lists are short.
	colls, err := r.list(ctx, c.DB, bson.Empty)
	if err != nil {
		return "", false, fmt.Errorf("looking for %s: %w", c.Namespace(), err)
	}
	for i := range colls {
		if colls[i].UUID == c.UUID {
			return colls[i].Name, true, nil
		}
	}
	return "", false, nil
}

// Copy writes the documents of a collection, which is called name now, to w, one after the
// other, and sums them up. seen is told of progress, in documents. The error is ErrMoved if the
// name did not mean this collection during all of it.
func (r *Reader) Copy(ctx context.Context, c *Collection, name string, w io.Writer, seen func(documents int64)) (docsum.Sum, error) {
	var sum docsum.Sum
	if err := r.still(ctx, c, name); err != nil {
		return sum, err
	}
	level := readconcern.Local()
	if r.Majority {
		level = readconcern.Majority()
	}
	coll := r.Client.Database(c.DB, options.Database().SetReadConcern(level)).Collection(name)
	cur, err := coll.Find(ctx, dbson.D{}, options.Find().SetHint(dbson.D{{Key: "$natural", Value: 1}}).SetNoCursorTimeout(true))
	if err != nil {
		return sum, moved(err, c)
	}
	defer cur.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the server ends idle cursors by itself
	if err := drain(ctx, cur, &sum, w, seen); err != nil {
		return sum, moved(err, c)
	}
	return sum, r.still(ctx, c, name)
}

func drain(ctx context.Context, cur *mongo.Cursor, sum *docsum.Sum, w io.Writer, seen func(int64)) error {
	told := int64(0)
	for cur.Next(ctx) {
		sum.Add(cur.Current)
		if _, err := w.Write(cur.Current); err != nil {
			return &writeError{err}
		}
		if cur.RemainingBatchLength() == 0 {
			seen(sum.Documents - told)
			told = sum.Documents
		}
	}
	seen(sum.Documents - told)
	return cur.Err()
}

// writeError keeps an error of the target apart from those of the server.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// still fails with ErrMoved unless the name means the collection.
func (r *Reader) still(ctx context.Context, c *Collection, name string) error {
	if c.UUID == (bson.UUID{}) {
		return nil
	}
	colls, err := r.list(ctx, c.DB, bson.D("name", name))
	if err != nil {
		return fmt.Errorf("looking for %s: %w", c.Namespace(), err)
	}
	if len(colls) != 1 || colls[0].UUID != c.UUID {
		return ErrMoved
	}
	return nil
}

func moved(err error, c *Collection) error {
	var w *writeError
	if errors.As(err, &w) {
		return w.error
	}
	if isCode(err, namespaceNotFound, queryPlanKilled, cursorNotFound) {
		return ErrMoved
	}
	return fmt.Errorf("reading %s: %w", c.Namespace(), err)
}
