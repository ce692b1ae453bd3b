package query

import (
	"context"
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/oplog"
)

const (
	// maxUnitDocs and maxUnitBytes bound the documents of one insert unit.
	maxUnitDocs  = 500
	maxUnitBytes = 256 << 10
)

// insertItem is one document of a batch on its way.
type insertItem struct {
	index int
	doc   bson.Raw
}

// inserter carries an insert batch through its units.
type inserter struct {
	l         *Local
	op        *OpContext
	ns        Namespace
	unordered bool
	bypass    bool
	rep       *WriteReply
	size      int // documents of the next call: small after an error
	one       [1]bson.Raw
}

// Insert implements Executor.
func (l *Local) Insert(op *OpContext, r *InsertRequest) (*WriteReply, error) {
	defer l.noteLastOp(op)
	if coll := l.seriesBuckets(r.NS); coll != nil {
		return l.insertSeries(op, r, coll)
	}
	if !r.System {
		if err := l.checkWritable(r.NS); err != nil {
			return nil, err
		}
	}
	in := &inserter{l: l, op: op, ns: r.NS, unordered: r.Unordered, bypass: r.BypassValidation, rep: &WriteReply{}, size: maxUnitDocs}
	// The server's own documents are stored as they are where there is no index on _id.
	plain := false
	if r.System {
		c := l.cat.Pin().Lookup(r.NS)
		plain = c != nil && c.IDIndex() == nil
	}
	var buf [16]insertItem
	items := buf[:0]
	bytes := 0
	for i, d := range r.Documents {
		prior, err := l.executed(op, i)
		if err != nil {
			return nil, err
		}
		if prior != nil {
			in.rep.N++
			in.rep.RetriedStmtIDs = append(in.rep.RetriedStmtIDs, op.statement(i))
			continue
		}
		doc, err := d, error(nil)
		if !plain {
			doc, err = l.storable(op, d)
		}
		if err != nil {
			// What came before goes first: an ordered batch ends here.
			if stop, ferr := in.flush(items); ferr != nil || stop {
				return in.rep, ferr
			}
			items, bytes = items[:0], 0
			if stop, err := in.failed(i, err); err != nil || stop {
				return in.rep, err
			}
			continue
		}
		items = append(items, insertItem{i, doc})
		if bytes += len(doc); len(items) >= maxUnitDocs || bytes >= maxUnitBytes {
			if stop, err := in.flush(items); err != nil || stop {
				return in.rep, err
			}
			items, bytes = items[:0], 0
		}
	}
	_, err := in.flush(items)
	return in.rep, err
}

// failed notes the error of document i; stop ends an ordered batch.
func (in *inserter) failed(i int, err error) (stop bool, fatal error) {
	e, fatal := statementError(err)
	if fatal != nil {
		return true, fatal
	}
	in.rep.Errors = append(in.rep.Errors, WriteError{i, e})
	return !in.unordered, nil
}

// flush writes items in one unit, but for those that are refused.
func (in *inserter) flush(items []insertItem) (stop bool, err error) {
	if len(items) == 0 {
		return false, nil
	}
	if err := in.op.Interrupt(); err != nil {
		return true, err
	}
	var done int64
	errsBefore := len(in.rep.Errors)
	err = in.l.unit(in.op, in.ns, true, func(ctx context.Context, c *catalog.Collection, w *oplog.WriteUnit) (bool, error) {
		done, stop = 0, false
		in.rep.Errors = in.rep.Errors[:errsBefore] // of an attempt that lost a conflict
		rest := items
		for len(rest) > 0 && !stop {
			n := min(in.size, len(rest))
			took, err := in.call(ctx, c, w, rest[:n])
			done += int64(took)
			rest = rest[took:]
			if err == nil {
				in.size = min(2*in.size, maxUnitDocs)
				continue
			}
			in.size = 1
			if took == n {
				return false, err
			}
			var fatal error
			if stop, fatal = in.failed(rest[0].index, err); fatal != nil {
				return false, fatal
			}
			rest = rest[1:]
		}
		return done > 0, nil
	})
	if err != nil {
		// The unit as a whole failed: nothing of it is there.
		if len(items) == 1 {
			return in.failed(items[0].index, err)
		}
		return true, err
	}
	in.rep.N += done
	in.op.Stats.NInserted += done
	return stop, nil
}

// call inserts items up to the first that is refused and returns how many went in.
func (in *inserter) call(ctx context.Context, c *catalog.Collection, w *oplog.WriteUnit, items []insertItem) (int, error) {
	docs := in.one[:0]
	if len(items) > 1 {
		docs = make([]bson.Raw, 0, len(items))
	}
	var refused error
	for _, it := range items {
		if !in.bypass {
			if refused = in.l.validate(c, nil, it.doc); refused != nil {
				break
			}
		}
		docs = append(docs, it.doc)
	}
	err := c.Insert(ctx, w, docs, in.info(items[:len(docs)]))
	if d := (*catalog.DocError)(nil); errors.As(err, &d) {
		if d.Index > 0 {
			if err := c.Insert(ctx, w, docs[:d.Index], in.info(items[:d.Index])); err != nil {
				return len(items), err
			}
		}
		return d.Index, d.Err
	}
	if err != nil {
		return len(items), err
	}
	return len(docs), refused
}

// info is what the entries of items carry.
func (in *inserter) info(items []insertItem) *catalog.WriteInfo {
	if len(items) == 0 || !in.op.HasTxn {
		return in.op.writeInfo(0)
	}
	info := in.op.writeInfo(items[0].index)
	for _, it := range items[1:] {
		info.StmtIDs = append(info.StmtIDs, in.op.statement(it.index))
	}
	return info
}
