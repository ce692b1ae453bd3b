package query

import (
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Delete implements Executor.
func (l *Local) Delete(op *OpContext, r *DeleteRequest) (*WriteReply, error) {
	defer l.noteLastOp(op)
	series := l.seriesBuckets(r.NS)
	if series != nil {
		r = &DeleteRequest{NS: series.NS, Deletes: r.Deletes, Unordered: r.Unordered, Let: r.Let}
	}
	if err := l.checkWritable(r.NS); err != nil {
		return nil, err
	}
	rep := &WriteReply{}
	for i := range r.Deletes {
		prior, err := l.executed(op, i)
		if err != nil {
			return nil, err
		}
		if prior != nil {
			rep.addPrior(prior, i, op.statement(i))
			continue
		}
		u, err := l.deleteStatement(op, r, i, series)
		if u != nil {
			rep.N += u.matched
			u.release()
		}
		if op.EachStatement != nil {
			op.EachStatement(i, err)
		}
		if err != nil {
			e, fatal := statementError(err)
			if fatal != nil {
				return rep, fatal
			}
			rep.Errors = append(rep.Errors, WriteError{i, e})
			if !r.Unordered {
				break
			}
		}
	}
	return rep, nil
}

func (l *Local) deleteStatement(op *OpContext, r *DeleteRequest, i int, series *catalog.Collection) (*updateOp, error) {
	s := r.Deletes[i]
	if series != nil {
		var err error
		if s, err = seriesDelete(s, series.Options.Timeseries); err != nil {
			return nil, err
		}
	}
	if op.HasTxn && s.Multi {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "Cannot use (or request) retryable writes with limit=0")
	}
	u := updateOps.Get().(*updateOp)
	u.l, u.op, u.ns, u.hint, u.multi, u.info, u.collation, u.series = l, op, r.NS, s.Hint, s.Multi, op.writeInfo(i), s.Collation, series
	if err := u.parse(s.Q, missing, nil, r.Let); err != nil {
		return nil, err
	}
	return u, u.run()
}
