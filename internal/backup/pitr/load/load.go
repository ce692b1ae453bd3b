package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/pitr/docsum"
	"github.com/cairndb/cairn/internal/bson"
)

// Target is the server that is filled. Its methods may be called by several goroutines.
type Target struct {
	Client *mongo.Client
	// Workers is the number of inserts at once for one collection; default 2.
	Workers int
	// PreserveUUID makes collections with the UUIDs they had.
	PreserveUUID bool
}

// A batch of documents is at most this large, unless one document is larger; servers
// take a command of 16 MB.
const (
	batchBytes     = 1 << 20
	batchDocuments = 5000
	maxDocument    = 16<<20 + 16<<10
)

func (t *Target) run(ctx context.Context, db string, cmd bson.Raw) (bson.Raw, error) {
	raw, err := t.Client.Database(db).RunCommand(ctx, dbson.Raw(cmd)).Raw()
	return bson.Raw(raw), err
}

// Exists lists the collections, views and time-series collections of a database.
func (t *Target) Exists(ctx context.Context, db string) ([]string, error) {
	names, err := t.Client.Database(db).ListCollectionNames(ctx, dbson.D{})
	if err != nil {
		return nil, fmt.Errorf("listing the collections of %s on the target: %w", db, err)
	}
	slices.Sort(names)
	return names, nil
}

// Drop drops a collection; one that is not there is dropped already.
func (t *Target) Drop(ctx context.Context, ns string) error {
	db, coll, _ := strings.Cut(ns, ".")
	if _, err := t.run(ctx, db, bson.D("drop", coll)); err != nil && !isCode(err, 26) {
		return fmt.Errorf("dropping %s: %w", ns, err)
	}
	return nil
}

// Create makes a collection with options as listCollections shows them.
func (t *Target) Create(ctx context.Context, ns string, uuid bson.UUID, options bson.Raw) error {
	db, coll, _ := strings.Cut(ns, ".")
	create := bson.NewBuilder(nil)
	create.Str("create", coll)
	for k, v := range options.Elems() {
		switch k {
		case "uuid", "autoIndexId", "flags": // of older servers; what they say is the default or gone
		default:
			create.Append(k, v)
		}
	}
	cmd := create.Finish()
	if t.PreserveUUID && uuid != (bson.UUID{}) && !options.Has("timeseries") {
		op := bson.D("op", "c", "ns", db+".$cmd", "ui", uuid, "o", cmd)
		if _, err := t.run(ctx, "admin", bson.D("applyOps", bson.A(op))); err != nil {
			return fmt.Errorf("making %s with its UUID: %w", ns, err)
		}
		return nil
	}
	if _, err := t.run(ctx, db, cmd); err != nil {
		return fmt.Errorf("making %s: %w", ns, err)
	}
	return nil
}

// Loaded is what an Insert did.
type Loaded struct {
	// Sum is of the documents as they were read.
	Sum docsum.Sum
	// Doubled counts those whose _id was there already: a copy that was made while a
	// document was deleted and inserted again can hold it twice.
	Doubled int64
}

// Insert inserts the documents that r holds one after the other. With ordered they are
// inserted one batch after the other, as a capped collection needs.
func (t *Target) Insert(ctx context.Context, ns string, r io.Reader, ordered bool, seen func(documents int64)) (Loaded, error) {
	workers := max(t.Workers, 1)
	if t.Workers == 0 {
		workers = 2
	}
	if ordered {
		workers = 1
	}
	var out Loaded
	var doubled atomic.Int64
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batches := make(chan *batch)
	free := make(chan *batch, workers+1)
	for range workers + 1 {
		free <- &batch{}
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for b := range batches {
				n, err := t.send(ctx, ns, b, ordered)
				if err != nil {
					cancel(err)
				}
				doubled.Add(n)
				seen(int64(b.n))
				b.reset()
				free <- b
			}
		})
	}
	err := split(ctx, r, &out.Sum, free, batches)
	close(batches)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	out.Doubled = doubled.Load()
	if err != nil {
		return out, fmt.Errorf("restoring %s: %w", ns, err)
	}
	return out, nil
}

// batch is an array of documents under construction.
type batch struct {
	buf []byte
	n   int
}

func (b *batch) reset() { b.buf, b.n = b.buf[:0], 0 }

// split cuts a stream of documents into batches.
func split(ctx context.Context, r io.Reader, sum *docsum.Sum, free, out chan *batch) error {
	in := bufio.NewReaderSize(r, 256<<10)
	take := func() (*batch, error) {
		select {
		case b := <-free:
			return b, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	b, err := take()
	if err != nil {
		return err
	}
	for {
		size, err := Next(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if b.n > 0 && (len(b.buf)+size > batchBytes || b.n >= batchDocuments) {
			select {
			case out <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if b, err = take(); err != nil {
				return err
			}
		}
		at := len(b.buf)
		b.buf = slices.Grow(b.buf, size)[:at+size]
		if _, err := io.ReadFull(in, b.buf[at:]); err != nil {
			return fmt.Errorf("reading a document: %w", err)
		}
		sum.Add(b.buf[at:])
		b.n++
	}
	if b.n > 0 {
		select {
		case out <- b:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Next returns the size of the document that a reader comes to, io.EOF at a clean end.
func Next(in *bufio.Reader) (int, error) {
	head, err := in.Peek(4)
	if len(head) == 0 && errors.Is(err, io.EOF) {
		return 0, io.EOF
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, fmt.Errorf("reading a document's length: %w", err)
	}
	size := binary.LittleEndian.Uint32(head)
	if size < 5 || size > maxDocument {
		return 0, fmt.Errorf("a document of %d bytes cannot be", size)
	}
	return int(size), nil
}

// send inserts a batch and returns how many of its documents were there already.
func (t *Target) send(ctx context.Context, ns string, b *batch, ordered bool) (doubled int64, err error) {
	db, coll, _ := strings.Cut(ns, ".")
	cmd := bson.NewBuilder(make([]byte, 0, len(b.buf)+16*b.n+256))
	cmd.Str("insert", coll).Array("documents")
	for rest := b.buf; len(rest) > 0; {
		n := binary.LittleEndian.Uint32(rest)
		cmd.AppendDoc("", bson.Raw(rest[:n]))
		rest = rest[n:]
	}
	cmd.End().Bool("ordered", ordered).Bool("bypassDocumentValidation", true)
	reply, err := t.run(ctx, db, cmd.Finish())
	var we mongo.WriteException
	if errors.As(err, &we) && we.WriteConcernError == nil {
		for _, e := range we.WriteErrors {
			if e.Code != 11000 || ordered {
				return doubled, err
			}
			doubled++
		}
		return doubled, nil
	}
	if err != nil {
		return 0, err
	}
	n, _ := reply.Get("n").AsInt64()
	if n != int64(b.n) {
		return 0, fmt.Errorf("the server took %d of %d documents and says nothing about the rest", n, b.n)
	}
	return 0, nil
}

// Build makes indexes of a collection, all with one command.
func (t *Target) Build(ctx context.Context, ns string, specs []bson.Raw) error {
	if len(specs) == 0 {
		return nil
	}
	db, coll, _ := strings.Cut(ns, ".")
	cmd := bson.NewBuilder(nil)
	cmd.Str("createIndexes", coll).Array("indexes")
	var names []string
	for _, s := range specs {
		cmd.AppendDoc("", s)
		names = append(names, s.Get("name").Str())
	}
	if _, err := t.run(ctx, db, cmd.End().Finish()); err != nil {
		return fmt.Errorf("building the indexes %s of %s: %w", strings.Join(names, ", "), ns, err)
	}
	return nil
}

// Sum reads a collection back.
func (t *Target) Sum(ctx context.Context, ns string) (docsum.Sum, error) {
	db, coll, _ := strings.Cut(ns, ".")
	var sum docsum.Sum
	cur, err := t.Client.Database(db).Collection(coll).Find(ctx, dbson.D{})
	if err != nil {
		return sum, fmt.Errorf("reading %s: %w", ns, err)
	}
	defer cur.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the server ends idle cursors by itself
	for cur.Next(ctx) {
		sum.Add(cur.Current)
	}
	if err := cur.Err(); err != nil {
		return sum, fmt.Errorf("reading %s: %w", ns, err)
	}
	return sum, nil
}

func isCode(err error, code int) bool {
	var se mongo.ServerError
	return errors.As(err, &se) && se.HasErrorCode(code)
}
