package catalog

import (
	"bytes"
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/storage"
)

// An index becomes unique in two steps of collMod: with prepareUnique no write may put a
// key twice any more; then unique succeeds if none stands there twice from before.

// maxViolations bounds the bytes of _ids that an index which cannot be made unique names.
const maxViolations = 8 << 20

// guards reports whether writes must not put a key that is there.
func (s *IndexSpec) guards() bool { return s.Unique || s.PrepareUnique }

// prepareUnique is the part of collMod for that option; next is the specification so far.
func (next *IndexSpec) prepareUnique(v bson.Value, out, o2 *bson.Builder) (*IndexSpec, error) {
	if v.Type != bson.TypeBool && !v.IsNumber() {
		return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'collMod.index.prepareUnique' is the wrong type '%s', expected types '[bool, long, int, decimal, double]'", v.Type)
	}
	was, on := next.PrepareUnique, v.Truthy()
	if next.Kept() && on {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "the index '%s' cannot be made unique: its kind is kept without entries", next.Name)
	}
	if was == on || next.guards() && on {
		return next, nil
	}
	out.Bool("prepareUnique_old", was).Bool("prepareUnique_new", on)
	o2.Bool("prepareUnique", was)
	return next.withOption("prepareUnique", bson.V(on))
}

// makeUnique is the part of collMod for the option unique. With check the keys are looked at;
// a log has seen to that.
func (ch *change) makeUnique(ctx context.Context, c *Collection, ix *Index, next *IndexSpec, v bson.Value, check bool, out *bson.Builder) (*IndexSpec, error) {
	switch {
	case v.Type != bson.TypeBool && !v.IsNumber():
		return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'collMod.index.unique' is the wrong type '%s', expected types '[bool, long, int, decimal, double]'", v.Type)
	case !v.Truthy():
		return nil, mongoerr.New(mongoerr.BadValue, "collMod does not support converting an index to non-unique")
	case next.Unique || next.IsID():
		return next, nil
	case !next.PrepareUnique:
		return nil, mongoerr.New(mongoerr.InvalidOptions, "Cannot make index unique with 'prepareUnique=false'. Run collMod to set it first.")
	}
	if check {
		if err := ch.checkOnce(ctx, c, ix); err != nil {
			return nil, err
		}
	}
	out.Bool("unique_new", true)
	next, err := next.withOption("unique", bson.V(true))
	if err != nil {
		return nil, err
	}
	return next.withOption("prepareUnique", bson.V(false))
}

// checkOnce makes an error of the keys that stand in an index more than once; it names the
// documents.
func (ch *change) checkOnce(ctx context.Context, c *Collection, ix *Index) (err error) {
	cur := ix.Store.Cursor(ch.u, storage.Forward, storage.IndexBounds{})
	defer func() { err = errors.Join(err, cur.Close()) }()
	found := bson.NewArrayBuilder(nil)
	var last []byte
	var same []storage.RecordID
	size := 0
	flush := func() error {
		if len(same) < 2 || size > maxViolations {
			return nil
		}
		found.Doc("").Array("ids")
		for _, rid := range same {
			doc, err := c.store.Get(ch.u, rid, nil)
			if err != nil {
				return err
			}
			id := bson.Raw(doc).Get("_id")
			size += len(id.Data) + 16
			found.Append("", id)
		}
		found.End().End()
		return nil
	}
	for n := 0; cur.Next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !bytes.Equal(last, cur.KeyString()) {
			if err := flush(); err != nil {
				return err
			}
			last, same = append(last[:0], cur.KeyString()...), same[:0]
		}
		same = append(same, cur.RecordID())
	}
	if err := errors.Join(cur.Err(), flush()); err != nil || size == 0 {
		return err
	}
	return mongoerr.New(mongoerr.CannotConvertIndexToUnique, "Cannot convert the index to unique. Please resolve conflicting documents before running collMod again.").
		WithExtra(bson.D("violations", bson.Array(found.Finish())))
}
