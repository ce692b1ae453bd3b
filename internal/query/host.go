package query

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/pipeline"
	"github.com/cairndb/cairn/internal/storage"
)

// host is what the pipeline of one operation reaches the rest of the server through.
type host struct {
	l       *Local
	op      *OpContext // of the present batch
	view    *view
	coll    *collate.Collator
	bypass  bool
	running []*execIterator
}

func (h *host) interrupt() error { return h.op.Interrupt() }

// Open implements pipeline.Host.
func (h *host) Open(ctx context.Context, ns pipeline.Namespace, p *pipeline.Pipeline, _ *expr.Env) (pipeline.Iterator, error) {
	return h.open(ctx, Namespace(ns), p, 0, bson.Value{})
}

// NewSorter implements pipeline.Host.
func (h *host) NewSorter(maxMemory int64) pipeline.Sorter {
	return sorter{h.l.eng.NewSorter(maxMemory)}
}

// sorter is a storage.Sorter as pipelines see it.
type sorter struct{ *storage.Sorter }

func (s sorter) Sorted() (pipeline.Pairs, error) { return s.Sorter.Sorted() }

// HasUniqueIndex implements pipeline.Host.
func (h *host) HasUniqueIndex(_ context.Context, ns pipeline.Namespace, fields []string) (bool, error) {
	t := h.l.resolve(Namespace(ns))
	if t.coll == nil { // will be made with the index on _id
		return len(fields) == 1 && fields[0] == "_id", nil
	}
	for _, ix := range t.indexes {
		if !ix.Unique || !collate.Same(ix.Collation, h.coll) || ix.Partial != nil || ix.Sparse || len(ix.Parts) != len(fields) {
			continue
		}
		var paths []string
		for _, p := range ix.Parts {
			paths = append(paths, p.Path)
		}
		slices.Sort(paths)
		if slices.Equal(paths, fields) {
			return true, nil
		}
	}
	return false, nil
}

// CollStats implements pipeline.Host.
func (h *host) CollStats(ctx context.Context, ns pipeline.Namespace, spec bson.Raw) (bson.Raw, error) {
	if h.l.stats == nil {
		return nil, mongoerr.New(mongoerr.CommandNotSupported, "$collStats is not available here")
	}
	return h.l.stats.CollStats(ctx, Namespace(ns), spec)
}

// CurrentOp implements pipeline.Host.
func (h *host) CurrentOp(ctx context.Context, spec bson.Raw) ([]bson.Raw, error) {
	if h.l.stats == nil {
		return nil, mongoerr.New(mongoerr.CommandNotSupported, "$currentOp is not available here")
	}
	return h.l.stats.CurrentOp(ctx, spec)
}

// Sessions implements pipeline.Host.
func (h *host) Sessions(ctx context.Context) ([]bson.Raw, error) {
	if h.l.stats == nil {
		return nil, mongoerr.New(mongoerr.CommandNotSupported, "sessions cannot be listed here")
	}
	return h.l.stats.Sessions(ctx)
}

// IndexStats implements pipeline.Host.
func (h *host) IndexStats(_ context.Context, ns pipeline.Namespace) ([]bson.Raw, error) {
	t := h.l.resolve(Namespace(ns))
	if t.coll == nil {
		return nil, nil
	}
	var out []bson.Raw
	for _, ix := range t.coll.AllIndexes() {
		n, since := ix.Accesses()
		b := bson.NewBuilder(nil).Str("name", ix.Spec.Name).AppendDoc("key", ix.Spec.Key).Str("host", h.l.stats.Host())
		b.Doc("accesses").Int64("ops", n).Date("since", bson.NewDateTime(since)).End()
		b.AppendDoc("spec", ix.Spec.Raw)
		if ix.Building() {
			b.Bool("building", true)
		}
		out = append(out, b.Finish())
	}
	return out, nil
}

// Insert implements pipeline.Host.
func (h *host) Insert(_ context.Context, ns pipeline.Namespace, docs []bson.Raw) error {
	rep, err := h.l.Insert(h.op, &InsertRequest{NS: Namespace(ns), Documents: docs, BypassValidation: h.bypass})
	return firstError(rep, err)
}

func firstError(rep *WriteReply, err error) error {
	if err != nil {
		return err
	}
	if len(rep.Errors) > 0 {
		return rep.Errors[0].Err
	}
	return nil
}

// Update implements pipeline.Host.
func (h *host) Update(_ context.Context, ns pipeline.Namespace, writes []pipeline.MergeWrite) ([]int64, error) {
	counts := make([]int64, len(writes))
	for i, w := range writes {
		s := UpdateStatement{Q: w.Q, U: w.U, Constants: w.Constants, Upsert: w.Upsert, UpsertSupplied: w.UpsertSupplied, Collation: h.collationSpec()}
		rep, err := h.l.Update(h.op, &UpdateRequest{NS: Namespace(ns), Updates: []UpdateStatement{s}, BypassValidation: h.bypass})
		if err := firstError(rep, err); err != nil {
			return counts, err
		}
		counts[i] = rep.N
	}
	return counts, nil
}

// collationSpec is the operation's collation as a request has it.
func (h *host) collationSpec() bson.Raw {
	if h.coll == nil {
		return bson.D("locale", "simple")
	}
	return h.coll.Spec()
}

// outWriter fills a temporary collection that takes the target's place at the end.
type outWriter struct {
	h        *host
	tmp, dst Namespace
}

// BeginOut implements pipeline.Host.
func (h *host) BeginOut(ctx context.Context, ns pipeline.Namespace) (pipeline.OutWriter, error) {
	dst := Namespace(ns)
	if err := h.l.checkWritable(dst); err != nil {
		return nil, err
	}
	id := h.l.ids.objectID(h.op.Now)
	w := &outWriter{h: h, dst: dst, tmp: Namespace{DB: dst.DB, Coll: "tmp.agg_out." + hex.EncodeToString(id[:])}}
	old := h.l.cat.Pin().Lookup(dst)
	options := bson.NewBuilder(nil)
	if old != nil {
		if old.IsCapped() {
			return nil, mongoerr.New(17152, "namespace '%s' is capped so it can't be used for $out", dst)
		}
		options.AppendElems(old.Options.Raw)
	}
	if old == nil || !old.Options.Temp {
		options.Bool("temp", true) // a crash leaves nothing behind
	}
	if _, err := h.l.cat.Create(ctx, w.tmp, options.Finish()); err != nil {
		return nil, err
	}
	if old == nil {
		return w, nil
	}
	var specs []bson.Raw
	for _, ix := range old.Indexes() {
		switch {
		case ix.Spec.IsID():
		case old.Options.Collation != nil && ix.Spec.Collation == nil:
			specs = append(specs, bson.NewBuilder(nil).AppendElems(ix.Spec.Raw).AppendDoc("collation", bson.D("locale", "simple")).Finish())
		default:
			specs = append(specs, ix.Spec.Raw)
		}
	}
	if len(specs) > 0 {
		if _, err := h.l.cat.CreateIndexes(ctx, w.tmp, specs); err != nil {
			w.Abort()
			return nil, err
		}
	}
	return w, nil
}

// Insert implements pipeline.OutWriter.
func (w *outWriter) Insert(_ context.Context, docs []bson.Raw) error {
	rep, err := w.h.l.Insert(w.h.op, &InsertRequest{NS: w.tmp, Documents: docs, BypassValidation: w.h.bypass})
	return firstError(rep, err)
}

// Commit implements pipeline.OutWriter.
func (w *outWriter) Commit(ctx context.Context) error {
	f, err := w.h.l.cat.Rename(ctx, w.tmp, w.dst, catalog.RenameOptions{DropTarget: true})
	if err == nil && f != nil {
		w.h.op.LastOp = f.OpTime
	}
	return err
}

// Abort implements pipeline.OutWriter.
func (w *outWriter) Abort() {
	if _, err := w.h.l.cat.Drop(context.WithoutCancel(w.h.op.Ctx), w.tmp); err != nil {
		w.h.l.logger.Warn("temporary collection of $out is left", "namespace", w.tmp.String(), "error", err)
	}
}
