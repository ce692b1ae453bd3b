package pitr

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/cairndb/cairn/internal/backup/pitr/indexes"
	"github.com/cairndb/cairn/internal/bson"
)

// finish builds the indexes.
func (r *restorer) finish(ctx context.Context) error {
	if err := r.build(ctx, func(spec bson.Raw) bool { return !indexes.IsTTL(spec) }); err != nil {
		return err
	}
	return r.track.phase(ctx, phaseVerify)
}

// buildTTL builds the indexes that delete documents, when everything was compared.
func (r *restorer) buildTTL(ctx context.Context) error { return r.build(ctx, indexes.IsTTL) }

// build builds the indexes for which which is true, several collections at once.
func (r *restorer) build(ctx context.Context, which func(bson.Raw) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sem := make(chan struct{}, r.env.workers())
	var wg sync.WaitGroup
	for _, ns := range r.set.Namespaces() {
		var specs []bson.Raw
		for _, s := range r.set.Of(ns) {
			if which(s) {
				specs = append(specs, s)
			}
		}
		if len(specs) == 0 {
			continue
		}
		r.out.Indexes += len(specs)
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			specs, err := r.withCollation(ctx, ns, specs)
			if err == nil {
				_, done := r.env.bar("indexes of "+ns, 0)
				err = r.target.Build(ctx, ns, specs)
				done()
			}
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// withCollation says simple for indexes that name no collation on a collection that has one:
// they would take the collection's.
func (r *restorer) withCollation(ctx context.Context, ns string, specs []bson.Raw) ([]bson.Raw, error) {
	db, coll, _ := strings.Cut(ns, ".")
	reply, err := r.env.command(ctx, db, bson.D("listCollections", 1, "filter", bson.D("name", coll)))
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", ns, err)
	}
	_, first := reply.Path("cursor.firstBatch").Doc().First()
	if !first.Doc().Get("options").Doc().Has("collation") {
		return specs, nil
	}
	out := make([]bson.Raw, len(specs))
	for i, s := range specs {
		if out[i] = s; s.Has("collation") || !takesCollation(s) {
			continue
		}
		b := bson.NewBuilder(nil)
		b.AppendElems(s).AppendDoc("collation", bson.D("locale", "simple"))
		out[i] = b.Finish()
	}
	return out, nil
}

// takesCollation tells text, 2d and geoHaystack indexes apart: they have the simple one only.
func takesCollation(spec bson.Raw) bool {
	for v := range spec.Get("key").Doc().Values() {
		if v.Type == bson.TypeString && v.Str() != "2dsphere" && v.Str() != "hashed" {
			return false
		}
	}
	return true
}
