package pipeline

import (
	"context"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// A $lookup whose array is unwound at once need not make the array: the inner pipeline's
// documents go out one by one, however many and large they are.

// takes reports whether the stage can do u's work, which follows it.
func (l *lookupStage) takes(u *unwindStage) bool {
	return l.unwind == nil && u.path == l.as && !strings.Contains(l.as, ".")
}

// lookupUnwind is the join and the $unwind in one.
type lookupUnwind struct {
	lookupIter
	u     unwindIter // makes the documents
	inner Iterator   // of the present document; nil: none is open
	again bson.Iter  // over what is cached, if reuse is set
	reuse bool
	n     int64
	keep  *bson.Builder // what is to be cached; nil: nothing
}

func newLookupUnwind(l *lookupIter) *lookupUnwind {
	it := &lookupUnwind{lookupIter: *l, u: unwindIter{u: l.l.unwind, path: l.as, b: bson.NewBuilder(nil)}}
	if u := l.l.unwind; u.index != "" {
		it.u.index = splitPath(u.index)
	}
	return it
}

func (it *lookupUnwind) Next(ctx context.Context) (bson.Raw, error) {
	for {
		if it.inner != nil || it.reuse {
			d, err := it.found(ctx)
			if err != nil {
				return nil, err
			}
			if d.Type == bson.TypeDocument {
				it.n++
				return it.u.document(d, bson.V(it.n-1)), nil
			}
			if it.n == 0 && it.l.unwind.preserve {
				return it.u.document(bson.Value{}, bson.Value{Type: bson.TypeNull}), nil
			}
		}
		doc, err := it.src.Next(ctx)
		if err != nil || doc == nil {
			return nil, err
		}
		it.u.hold = append(it.u.hold[:0], doc...)
		it.u.doc, it.n = it.u.hold, 0
		if it.cached != nil {
			it.again, it.reuse = bson.Raw(it.cached).Iter(), true
			continue
		}
		if it.inner, err = it.openJoin(ctx, it.u.doc); err != nil {
			return nil, err
		}
		if it.keep = nil; it.cacheable {
			it.keep = bson.NewArrayBuilder(nil)
		}
	}
}

// found is the next document that was joined, missing behind the last.
func (it *lookupUnwind) found(ctx context.Context) (bson.Value, error) {
	if it.reuse {
		if it.again.Next() {
			return it.again.Value(), nil
		}
		it.reuse = false
		return bson.Value{}, nil
	}
	d, err := it.inner.Next(ctx)
	if err != nil {
		return bson.Value{}, err
	}
	if d != nil {
		if it.keep != nil {
			if it.keep.AppendDoc("", d); it.keep.Len() > maxLookupResult {
				it.keep, it.cacheable = nil, false
			}
		}
		return d.Value(), nil
	}
	if it.keep != nil {
		it.cached = bson.Array(it.keep.Finish())
		it.keep = nil
	}
	err = it.inner.Close()
	it.inner = nil
	return bson.Value{}, err
}

func (it *lookupUnwind) Close() error {
	err := it.src.Close()
	if it.inner != nil {
		if e := it.inner.Close(); err == nil {
			err = e
		}
		it.inner = nil
	}
	return err
}
