package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/query"
	"github.com/cairndb/cairn/internal/storage"
)

// load learns from config.transactions and the log what the session has done.
func (r *Retryable) load(ctx context.Context, p *participant) error {
	if err := r.EnsureCollections(ctx); err != nil {
		return err
	}
	doc, at, err := r.find(r.cat.Engine(), Transactions, p.lsid)
	if err != nil {
		return err
	}
	if doc != nil {
		rec, err := parseRecord(doc)
		if err != nil {
			return err
		}
		p.record, p.txn, p.last = at, rec.txn, rec.last
		if err := r.loadHistory(p); err != nil {
			return err
		}
	}
	p.loaded = true
	return nil
}

// loadHistory follows the chain of the newest txnNumber's entries from its end.
func (r *Retryable) loadHistory(p *participant) error {
	clear(p.done)
	p.incomplete = false
	for at := p.last; !at.IsNull(); {
		raw, err := r.findEntry(at)
		if err != nil {
			return err
		}
		if raw == nil {
			p.incomplete = true
			return nil
		}
		e, err := oplog.Decode(raw)
		if err != nil {
			return fmt.Errorf("history of session %s: %w", p.id, err)
		}
		for _, id := range statements(&e) {
			if _, newer := p.done[id]; !newer {
				p.done[id] = at
			}
		}
		if e.PrevOpTime == nil {
			// An entry of a session always says what is before it.
			return fmt.Errorf("%w: entry %s of session %s has no prevOpTime", storage.ErrCorruption, at, p.id)
		}
		at = *e.PrevOpTime
	}
	return nil
}

// findEntry reads the entry at an optime: nil if the log has it no longer.
func (r *Retryable) findEntry(at oplog.OpTime) (bson.Raw, error) {
	raw, err := r.log.Find(at.TS)
	switch {
	case errors.Is(err, oplog.ErrPositionLost), errors.Is(err, storage.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read entry %s of a retried write: %w", at, err)
	}
	return raw, nil
}

// statements lists the stmtIds that e tells of, also inside a grouped insert.
func statements(e *oplog.Entry) []int32 {
	ids := e.StmtIDs
	for op := range groupedOps(e) {
		ids = append(ids[:len(ids):len(ids)], op.StmtIDs...)
	}
	return ids
}

// groupedOps iterates over the operations of an applyOps with multiOpType 1, which
// MongoDB writes for several inserts.
func groupedOps(e *oplog.Entry) func(func(oplog.Entry) bool) {
	return func(yield func(oplog.Entry) bool) {
		if e.MultiOpType != 1 || e.CommandName() != "applyOps" {
			return
		}
		_, ops := e.O.First()
		for v := range ops.Doc().Values() {
			op, err := oplog.Decode(v.Doc())
			if err != nil || !yield(op) {
				return
			}
		}
	}
}

// Executed implements query.SessionHook. A statement that was executed makes the
// operation wait for it as its own write concern says.
func (r *Retryable) Executed(op *query.OpContext, stmtID int32) (*query.PriorResult, error) {
	if !op.HasTxn || op.LSID == nil {
		return nil, nil
	}
	p, err := r.checkedOut(op.LSID)
	if err != nil {
		return nil, err
	}
	at, ok := p.done[stmtID]
	if !ok {
		if p.incomplete {
			return nil, incomplete(p)
		}
		return nil, nil
	}
	raw, err := r.findEntry(at)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, incomplete(p)
	}
	e, err := oplog.Decode(raw)
	if err != nil {
		return nil, err
	}
	res, err := r.rebuild(p, &e, raw, stmtID)
	if err != nil {
		return nil, err
	}
	if p.last.TS > op.LastOp.TS {
		op.LastOp.TS, op.LastOp.Term = p.last.TS, p.last.Term
	}
	return res, nil
}

func incomplete(p *participant) error {
	return mongoerr.New(mongoerr.IncompleteTransactionHistory, "Incomplete history detected for transaction { txnNumber: %d } on session %s", p.txn, p.id)
}

// rebuild tells what the statement of an entry did.
func (r *Retryable) rebuild(p *participant, e *oplog.Entry, raw bson.Raw, stmtID int32) (*query.PriorResult, error) {
	for op := range groupedOps(e) {
		for _, id := range op.StmtIDs {
			if id == stmtID {
				return &query.PriorResult{Op: byte(op.Op), N: 1, Entry: raw}, nil
			}
		}
	}
	res := &query.PriorResult{Op: byte(e.Op), N: 1, Entry: raw}
	switch e.Op {
	case oplog.OpInsert:
		res.UpsertedID, res.Image = e.O.Get("_id"), e.O
	case oplog.OpUpdate:
		res.NModified = 1
	case oplog.OpDelete:
	case oplog.OpNoop:
		res.N = 0
	default:
		return nil, fmt.Errorf("%w: entry %s of a retryable write is of kind %q", storage.ErrCorruption, e.OpTime, e.Op)
	}
	if e.NeedsRetryImage == "" {
		return res, nil
	}
	image, err := r.findImage(p, e)
	res.ImageKind, res.Image = e.NeedsRetryImage, image
	return res, err
}

// findImage reads the image that belongs to an entry.
func (r *Retryable) findImage(p *participant, e *oplog.Entry) (bson.Raw, error) {
	doc, _, err := r.find(r.cat.Engine(), Images, p.lsid)
	if err != nil {
		return nil, err
	}
	if doc == nil || doc.Get("ts").Timestamp() != e.OpTime.TS {
		return nil, mongoerr.New(5637601, "image collection no longer contains the complete write history of this transaction, record with sessionId: %s cannot be found", p.lsid)
	}
	if doc.Get("invalidated").Truthy() {
		return nil, mongoerr.New(mongoerr.IncompleteTransactionHistory, "Incomplete image history for a retried findAndModify on session %s: %s", p.id, doc.Get("invalidatedReason"))
	}
	return doc.Get("image").Doc(), nil
}
