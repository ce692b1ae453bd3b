package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/storage"
)

// The collections in which sessions survive a restart. Anyone may read them; only
// Retryable writes to them.
var (
	// Transactions has one document for each session that wrote:
	// {_id: lsid, txnNum, lastWriteOpTime, lastWriteDate}.
	Transactions = catalog.Namespace{DB: catalog.ConfigDB, Coll: "transactions"}
	// Images has the document before or after each session's newest findAndModify:
	// {_id: lsid, txnNum, ts, imageKind, image, invalidated}.
	Images = catalog.Namespace{DB: catalog.ConfigDB, Coll: "image_collection"}
)

// IsOwn reports whether ns is one of the collections that only sessions write to.
func IsOwn(ns catalog.Namespace) bool { return ns == Transactions || ns == Images }

// EnsureCollections makes the collections if they are not there. The first retryable
// write does so too; a server calls it earlier so that its log begins with them.
func (r *Retryable) EnsureCollections(ctx context.Context) error {
	for _, ns := range []catalog.Namespace{Transactions, Images} {
		if r.cat.Pin().Lookup(ns) != nil {
			continue
		}
		_, grant, err := r.cat.BeginWrite(ctx, ns, true)
		if err != nil {
			return fmt.Errorf("create %s: %w", ns, err)
		}
		grant.Release()
	}
	return nil
}

// find reads the document of a session: nil if there is none.
func (r *Retryable) find(from storage.Reader, ns catalog.Namespace, lsid bson.Raw) (bson.Raw, place, error) {
	coll := r.cat.Pin().Lookup(ns)
	if coll == nil {
		return nil, place{}, nil
	}
	rid, err := coll.FindID(from, lsid.Value())
	if errors.Is(err, storage.ErrNotFound) {
		return nil, place{}, nil
	}
	if err != nil {
		return nil, place{}, err
	}
	doc, err := coll.Get(from, rid, nil)
	if err != nil {
		return nil, place{}, fmt.Errorf("document %d of %s: %w", rid, ns, err)
	}
	return doc, place{rid, len(doc)}, nil
}

// put stores a session's document where the one before is, or as a new one.
func (r *Retryable) put(u *storage.RecoveryUnit, ns catalog.Namespace, at place, doc bson.Raw) (place, error) {
	coll := r.cat.Pin().Lookup(ns)
	if coll == nil {
		return place{}, fmt.Errorf("%w: %s is missing", storage.ErrCorruption, ns)
	}
	rid, err := coll.PutDerived(u, at.rid, at.len, doc)
	return place{rid, len(doc)}, err
}
