package query

import (
	"context"
	"errors"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/query/exec"
)

// tickEvery is how many results pass between two looks for interruption.
const tickEvery = 128

// defaultAwait is how long getMore waits on an awaitData cursor.
const defaultAwait = time.Second

// findSource gives the results of an execution batch by batch.
type findSource struct {
	l            *Local
	x            *exec.Exec
	count        func() int64 // of the collection; for tailable cursors
	view         *view
	stash        bson.Raw // a result that did not fit the last batch
	showRecordID bool
	tailable     bool
	await        bool
	majority     bool
	later        bool // not the first batch
	wait         time.Duration
	seen         uint64 // the newest index that was visible before the last look
}

func (s *findSource) clusterTime() bson.Timestamp {
	if s.view.snap == nil {
		return 0
	}
	return s.view.ts
}

func (s *findSource) fill(op *OpContext, b *batch) (bool, error) {
	s.x.Opts.Interrupt, s.x.Opts.Ctx = op.Interrupt, op.Ctx
	if s.tailable {
		s.seen = s.l.log.VisibleIndex()
		s.x.Rewake()
	}
	done, err := s.collect(op, b)
	if err == nil && s.tailable && s.await && s.later && b.n == 0 && b.limit != 0 {
		done, err = s.awaitMore(op, b)
	}
	first := !s.later
	s.later = true
	if errors.Is(err, oplog.ErrPositionLost) {
		err = mongoerr.New(mongoerr.CappedPositionLost, "CollectionScan died due to position in capped collection being deleted. Last seen record is no longer in the log.")
	}
	if err != nil {
		return true, err
	}
	if s.majority && b.n > 0 {
		if err := s.l.waitDurable(op); err != nil {
			return true, err
		}
	}
	s.account(op)
	if done && s.tailable {
		done = first && s.count() == 0 // as in MongoDB, there is nothing to follow yet
	}
	if !done {
		s.x.Save()
	}
	return done, nil
}

// collect fills the batch as far as there are results.
func (s *findSource) collect(op *OpContext, b *batch) (done bool, err error) {
	if err := op.Interrupt(); err != nil {
		return true, err
	}
	if s.stash != nil {
		if b.limit == 0 {
			return false, nil
		}
		b.add(s.stash)
		s.stash = nil
	}
	var row exec.Row
	for b.room() {
		ok, err := s.x.Next(&row)
		if err != nil || !ok {
			return true, err
		}
		if !b.fits(len(row.Doc)) {
			s.stash = row.Doc.Clone()
			return false, nil
		}
		if s.showRecordID {
			b.out.Doc("").AppendElems(row.Doc).Int64("$recordId", int64(row.ID)).End()
			b.n++
		} else {
			b.add(row.Doc)
		}
		if b.n%tickEvery == 0 {
			if err := s.x.Tick(); err != nil {
				return true, err
			}
		}
	}
	return s.x.EOF(), nil
}

// awaitMore waits for new data at the end of a capped collection.
func (s *findSource) awaitMore(op *OpContext, b *batch) (bool, error) {
	wait := s.wait
	if wait <= 0 {
		wait = defaultAwait
	}
	ctx, cancel := context.WithTimeout(op.Ctx, wait)
	defer cancel()
	for b.n == 0 {
		s.x.Save()
		began := time.Now()
		err := s.l.log.WaitVisible(ctx, s.seen+1)
		op.Stats.Waited += time.Since(began)
		if err != nil {
			if op.Ctx.Err() != nil {
				return true, contextError(op.Ctx, op.Ctx.Err())
			}
			if ctx.Err() == nil {
				return true, err
			}
			return false, op.Interrupt()
		}
		s.seen = s.l.log.VisibleIndex()
		s.x.Rewake()
		if _, err := s.collect(op, b); err != nil {
			return true, err
		}
	}
	return false, nil
}

// account adds what was read to the operation's figures.
func (s *findSource) account(op *OpContext) {
	keys, docs := exec.Examined(s.x.Plan.Root)
	op.Stats.KeysExamined, op.Stats.DocsExamined = keys, docs
}

func (s *findSource) close() {
	s.x.Close()
	s.view.close()
}

// GetMore implements Executor.
func (l *Local) GetMore(op *OpContext, r *GetMoreRequest, out *bson.Builder) error {
	cur, err := l.cursors.checkOut(op, r.CursorID, r.NS)
	if err != nil {
		return err
	}
	if op.AfterCheckOut != nil {
		if err := op.AfterCheckOut(!cur.AwaitData && cur.maxTime > 0); err != nil {
			l.cursors.checkIn(cur, true)
			return err
		}
	}
	if (r.MaxAwait > 0 || r.HasMaxAwait) && !cur.AwaitData {
		l.cursors.checkIn(cur, false)
		return mongoerr.New(mongoerr.BadValue, "cannot set maxTimeMS on getMore command for a non-awaitData cursor")
	}
	if s, ok := cur.source.(interface{ setWait(time.Duration) }); ok {
		s.setWait(time.Duration(r.MaxAwait) * time.Millisecond)
	}
	if cur.AwaitData {
		op.Deadline = time.Time{} // maxTimeMS is how long to wait, not a limit
	} else if cur.maxTime > 0 {
		op.Deadline = op.Now.Add(cur.maxTime)
	}
	limit := int64(-1)
	if r.HasBatchSize && r.BatchSize > 0 {
		limit = r.BatchSize
	}
	out.Doc("cursor").Array("nextBatch")
	b := newBatch(out, limit)
	done, err := cur.source.fill(op, b)
	if err != nil {
		l.cursors.checkIn(cur, true)
		return inPlan("Executor error during getMore", err)
	}
	out.End()
	cur.returned.Add(b.n)
	op.Stats.NReturned, op.Stats.CursorID, op.Stats.Exhausted = b.n, cur.ID, done
	if cur.maxTime > 0 {
		cur.maxTime = max(cur.maxTime-time.Since(op.Now), time.Millisecond)
	}
	id := cur.ID
	if done {
		id = 0
	}
	l.cursors.checkIn(cur, done)
	out.Int64("id", id).Join("ns", r.NS.DB, ".", r.NS.Coll).End()
	return nil
}

func (s *findSource) setWait(d time.Duration) { s.wait = d }

// KillCursors implements Executor.
func (l *Local) KillCursors(op *OpContext, r *KillCursorsRequest) (*KillCursorsReply, error) {
	rep := &KillCursorsReply{}
	for _, id := range r.Cursors {
		if l.cursors.kill(id, func(c *Cursor) bool { return c.NS == r.NS }) {
			rep.Killed = append(rep.Killed, id)
		} else {
			rep.NotFound = append(rep.NotFound, id)
		}
	}
	return rep, nil
}
