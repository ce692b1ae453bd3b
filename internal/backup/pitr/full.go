package pitr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/docsum"
	"github.com/cairndb/cairn/internal/backup/pitr/snapshot"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/bson"
)

// FullOptions are the options of Full.
type FullOptions struct {
	// NewSource allows a server that is another one than the repository's.
	NewSource bool
}

// Names of a full backup's streams.
const (
	streamCatalog = "catalog" // a document for each collection, see snapshot.Collection
	streamOplog   = "oplog"
	streamData    = "data/" // and a number: the documents of one collection
)

// fullDetails is what a full backup's manifest says besides.
type fullDetails struct {
	// Base is the entry whose state the catalog shows: what took effect up to it is in the
	// copied data. The oplog begins earlier if transactions were open then.
	Base repo.Position `json:"base"`
	// Collections sums the collections up.
	Collections []collectionSum `json:"collections"`
	// What its oplog writes.
	written
}

// collectionSum is one collection as it was copied.
type collectionSum struct {
	NS        string `json:"ns"`
	Documents int64  `json:"documents"`
	Bytes     int64  `json:"bytes"`
	// Hash is docsum's.
	Hash string `json:"hash"`
	// Exact tells that nothing was written to it from Base to the end: the sum is that of
	// the moment of the backup. Else it is of the copy, which the oplog makes exact.
	Exact bool `json:"exact"`
}

// Full takes a full backup. If the chain can be continued up to it, it is, so that no moment is
// left out; if the chain has a gap, the gap is recorded and the full backup taken all the same:
// it is then returned with a *GapError.
func (e *Env) Full(ctx context.Context, o FullOptions) (*repo.Manifest, error) {
	org, err := e.openSource(ctx)
	if err != nil {
		return nil, err
	}
	joint, bridgeErr := e.bridge(ctx, org, o)
	var gap *GapError
	if bridgeErr != nil && !errors.As(bridgeErr, &gap) {
		return nil, bridgeErr
	}
	m, err := e.full(ctx, org, joint)
	if err != nil {
		return nil, errors.Join(err, bridgeErr)
	}
	if gap != nil {
		gap.Full = m.ID
	}
	return m, bridgeErr
}

// bridge continues the chain up to now, if slices are taken at all and nobody else does it, and
// returns where it ends: the full backup's own oplog begins there, so that nothing falls between.
func (e *Env) bridge(ctx context.Context, org *origin, o FullOptions) (joint entry.OpTime, err error) {
	st, err := e.State(ctx)
	if err != nil {
		return joint, err
	}
	if was := st.Source(); !sameSource(was, org.name) {
		if o.NewSource {
			return joint, nil
		}
		return joint, &SourceError{was, org.name}
	}
	incremental := slices.ContainsFunc(st.Coverage.Backups, func(b chain.Backup) bool { return b.Kind != chain.Full })
	if !incremental { // full backups alone: the oplog between them is not wanted
		return joint, nil
	}
	lk, unlock, err := e.lock(ctx, repo.LockRequest{Kind: repo.Shared, Purpose: "oplog up to a full backup", Scope: scopeOplog})
	var locked *repo.LockedError
	if errors.As(err, &locked) {
		return joint, nil // a continuous backup does it
	}
	if err != nil {
		return joint, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	out, err := e.incr(ctx, org, lk, IncrOptions{})
	if err == nil {
		joint = out.To
	}
	return joint, err
}

// full copies the server and the oplog of the copy's own duration, from joint on if that is set.
func (e *Env) full(ctx context.Context, org *origin, joint entry.OpTime) (_ *repo.Manifest, err error) {
	lk, unlock, err := e.lock(ctx, repo.LockRequest{Kind: repo.Shared, Purpose: "full backup", Scope: scopeFull})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	w, err := e.Repo.NewWriter(ctx, lk)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Abort())
		}
	}()
	f := &fuller{env: e, org: org, joint: joint, w: w, reader: &snapshot.Reader{Client: e.Client, Majority: org.majority}}
	return f.run(ctx)
}

// fuller is a full backup under way.
type fuller struct {
	env    *Env
	org    *origin
	w      *repo.Writer
	reader *snapshot.Reader
	joint  entry.OpTime
	base   entry.OpTime
	tail   *fullTail
	colls  []snapshot.Collection
}

func (f *fuller) run(ctx context.Context) (*repo.Manifest, error) {
	start, err := f.org.Start(ctx)
	if err != nil {
		return nil, err
	}
	if !f.joint.IsNull() && f.joint.TS < start.TS {
		start = f.joint
	}
	// From here on errors of the tail end the copy, and the other way round.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.tail = newFullTail(f.w.Log(streamOplog))
	tailDone := make(chan error, 1)
	tailCtx, stopTail := context.WithCancelCause(ctx)
	defer stopTail(nil)
	go func() {
		err := f.tail.run(tailCtx, f.org, start)
		if err != nil {
			cancel(err)
		}
		tailDone <- err
	}()
	copied, err := f.copyAll(ctx)
	var end entry.OpTime
	if err == nil {
		end, err = f.org.barrier(ctx)
	}
	if err != nil {
		cancel(err)
	} else {
		f.tail.finish(end.TS, func() { stopTail(errReached) })
	}
	if terr := <-tailDone; terr != nil && !errors.Is(err, terr) {
		err = errors.Join(err, fmt.Errorf("the oplog beside the copy: %w", terr))
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
			err = cause
		}
		return nil, err
	}
	return f.signOff(ctx, copied)
}

// listTries bounds how often the catalog is listed anew because an entry without a UUID changed
// it meanwhile.
const listTries = 20

// catalog lists the collections as of f.base.
func (f *fuller) catalog(ctx context.Context) error {
	for try := 0; ; try++ {
		base, err := f.org.Newest(ctx)
		if err != nil {
			return err
		}
		colls, err := f.reader.Catalog(ctx)
		if err != nil {
			return err
		}
		listed, err := f.org.barrier(ctx)
		if err != nil {
			return err
		}
		w, err := f.tail.changes(ctx, base.TS, listed.TS)
		if err != nil {
			return err
		}
		if w.Unknown == nil {
			f.base, f.colls = base, w.Rewind(colls)
			f.tail.forgetChanges()
			return nil
		}
		if try == listTries {
			return fmt.Errorf("collections changed each of the %d times that they were listed (last: %s): try again when fewer are created and renamed", try, w.Unknown.Place())
		}
	}
}

// copied is a collection that was copied.
type copied struct {
	stream *repo.StreamRef // nil: nothing was there to copy
	sum    docsum.Sum
	gone   bool
}

func (f *fuller) copyAll(ctx context.Context) ([]copied, error) {
	if err := f.catalog(ctx); err != nil {
		return nil, err
	}
	out := make([]copied, len(f.colls))
	next := make(chan int)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range min(f.env.workers(), max(len(f.colls), 1)) {
		wg.Go(func() {
			for i := range next {
				c, err := f.copyOne(ctx, i)
				if err != nil {
					cancel(err)
				}
				out[i] = c
			}
		})
	}
feed:
	for i := range f.colls {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	return out, context.Cause(ctx)
}

// copyTries bounds how often a collection is read anew because it was renamed meanwhile.
const copyTries = 50

// copyOne copies one collection, wherever it is called what now.
func (f *fuller) copyOne(ctx context.Context, i int) (copied, error) {
	c := &f.colls[i]
	if c.Gone || c.Type == "timeseries" {
		return copied{gone: c.Gone}, nil
	}
	total := int64(0)
	if reply, err := f.env.command(ctx, c.DB, bson.D("count", c.Name)); err == nil { // for the progress only
		total, _ = reply.Get("n").AsInt64()
	}
	add, done := f.env.bar(c.Namespace(), total)
	defer done()
	name := c.Name
	for try := range copyTries {
		stream := fmt.Sprintf("%s%06d", streamData, i)
		if try > 0 {
			stream = fmt.Sprintf("%s.%d", stream, try)
		}
		s := f.w.Stream(stream)
		sum, err := f.reader.Copy(ctx, c, name, s, add)
		ref, ferr := s.Finish()
		if err == nil {
			return copied{stream: &ref, sum: sum}, ferr
		}
		if !errors.Is(err, snapshot.ErrMoved) {
			return copied{}, err
		}
		add(-sum.Documents)
		var there bool
		if name, there, err = f.reader.Locate(ctx, c); err != nil {
			return copied{}, err
		}
		if !there {
			f.env.say("%s was dropped while it was copied; the oplog of the backup drops it too", c.Namespace())
			return copied{gone: true}, nil
		}
		f.env.say("%s was renamed to %s.%s while it was copied; it is read again", c.Namespace(), c.DB, name)
	}
	return copied{}, fmt.Errorf("%s was renamed each of the %d times that it was read: try again later", c.Namespace(), copyTries)
}

// signOff writes the catalog and the manifest.
func (f *fuller) signOff(ctx context.Context, all []copied) (*repo.Manifest, error) {
	oplogRef, err := f.tail.close()
	if err != nil {
		return nil, err
	}
	m := &repo.Manifest{Kind: string(chain.Full), Source: f.org.name, ServerVersion: f.org.version, Tool: f.env.Tool,
		Start: toPosition(f.tail.first), End: toPosition(f.tail.last), Options: map[string]string{optionOrder: "natural", optionEnd: entryHash(f.tail.lastRaw)},
		Counts: map[string]int64{countEntries: f.tail.entries, countCollections: int64(len(all))},
		Sizes:  map[string]int64{sizeOplog: f.tail.bytes}}
	details := fullDetails{Base: toPosition(f.base), written: f.tail.written}
	cat := f.w.Stream(streamCatalog)
	for i, c := range all {
		coll := &f.colls[i]
		coll.Gone = coll.Gone || c.gone
		sum := collectionSum{NS: coll.Namespace(), Documents: c.sum.Documents, Bytes: c.sum.Bytes, Hash: c.sum.Hash(),
			Exact: !coll.Gone && !f.tail.touched(coll)}
		details.Collections = append(details.Collections, sum)
		m.Counts[countDocuments] += c.sum.Documents
		m.Sizes[sizeDocuments] += c.sum.Bytes
		doc := coll.Marshal(func(b *bson.Builder) {
			if c.stream != nil {
				b.Str("stream", c.stream.Name)
			}
			b.Int64("documents", sum.Documents).Int64("bytes", sum.Bytes).Str("hash", sum.Hash).Bool("exact", sum.Exact)
		})
		if _, err := cat.Write(doc); err != nil {
			return nil, err
		}
		if c.stream != nil {
			m.Streams = append(m.Streams, *c.stream)
		}
	}
	catRef, err := cat.Finish()
	if err != nil {
		return nil, err
	}
	m.Streams = append([]repo.StreamRef{catRef, oplogRef}, m.Streams...)
	if m.Details, err = json.Marshal(details); err != nil {
		return nil, err
	}
	if err := f.w.Commit(ctx, m); err != nil {
		return nil, fmt.Errorf("signing off the full backup: %w", err)
	}
	return m, nil
}
