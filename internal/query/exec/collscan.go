package exec

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// collScan reads records in the order of their ids.
type collScan struct {
	x       *Exec
	n       *plan.Node
	m       *match.Matcher
	cur     storage.RecordCursor
	dir     storage.Direction
	lo, hi  storage.RecordID
	last    storage.RecordID
	started bool
	fresh   bool // the cursor stands on a record that was not returned yet
}

func newCollScan(x *Exec, n *plan.Node) *collScan {
	s := &collScan{x: x, n: n, dir: storage.Forward}
	if n.Backward {
		s.dir = storage.Backward
	}
	if n.HasMin {
		s.lo = storage.RecordID(max(n.MinRecord, 1))
	}
	if n.HasMax {
		s.hi = storage.RecordID(max(n.MaxRecord, 1))
	}
	if n.Filter != nil {
		s.m = match.New(n.Filter)
	}
	return s
}

func (s *collScan) open() error {
	if err := s.x.check(); err != nil {
		return err
	}
	var err error
	if s.cur, err = s.x.Coll.Records.CursorRange(s.x.ctx(), s.x.Opts.Reader, s.dir, s.lo, s.hi); err != nil || !s.started {
		return err
	}
	ok := s.cur.Seek(s.last)
	if ok && s.cur.RecordID() == s.last {
		return nil
	}
	if err := s.cur.Err(); err != nil {
		return err
	}
	if s.x.Coll.Capped && s.dir == storage.Forward && !s.x.Opts.Stable {
		return mongoerr.New(mongoerr.CappedPositionLost, "CollectionScan died due to position in capped collection being deleted. Last seen record id: RecordId(%d)", int64(s.last))
	}
	s.fresh = ok
	return nil
}

func (s *collScan) next(row *Row) (status, error) {
	if s.cur == nil {
		if err := s.open(); err != nil {
			return eof, err
		}
	}
	for i := s.x.step; i > 0; i-- {
		if s.fresh {
			s.fresh = false
		} else if !s.cur.Next() {
			return s.end(s.x.step - i)
		}
		s.started, s.last = true, s.cur.RecordID()
		doc := bson.Raw(s.cur.Value())
		s.n.Stats.DocsExamined++
		if s.m != nil {
			ok, err := s.m.Match(doc)
			if err != nil {
				return eof, err
			}
			if !ok {
				s.x.bytes += int64(len(doc))
				continue
			}
		}
		s.n.Stats.Advanced++
		row.ID, row.Doc, row.Key, row.Index = s.last, doc, nil, nil
		return advanced, s.x.spend(s.x.step - i + 1)
	}
	return needTime, s.x.spend(s.x.step)
}

func (s *collScan) end(done int) (status, error) {
	if err := s.cur.Err(); err != nil {
		return eof, err
	}
	s.n.Stats.IsEOF = true
	if s.n.Tailable {
		// The next look needs a new view; the position is the last record.
		s.close()
	}
	return eof, s.x.spend(done)
}

func (s *collScan) save() { s.close() }

func (s *collScan) close() {
	if s.cur != nil {
		s.cur.Close() // what reading met was reported by Err
		s.cur, s.fresh = nil, false
	}
}
