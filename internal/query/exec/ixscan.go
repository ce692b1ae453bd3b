package exec

import (
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// ixScan reads the entries of an index within bounds.
type ixScan struct {
	x    *Exec
	n    *plan.Node
	h    *Index
	kb   *keyBounds
	m    *match.Matcher // on the key
	keys *keyDoc
	cur  *storage.IndexCursor
	dir  storage.Direction

	started bool
	stay    bool // the cursor stands on an entry that was not looked at yet
	lastKey []byte
	lastID  storage.RecordID
	seekBuf []byte
	resume  []byte // where to go on if the cursor was given up before an entry was looked at
	seen    map[storage.RecordID]struct{}
}

func newIxScan(x *Exec, n *plan.Node) *ixScan {
	s := &ixScan{x: x, n: n, h: n.Index.Ref.(*Index), dir: storage.Forward}
	if n.Backward {
		s.dir = storage.Backward
	}
	if n.MinMax != nil {
		s.kb = rangeBounds(s.h, n.MinMax)
	} else {
		s.kb = encodeBounds(s.h, n.Bounds)
	}
	if n.Filter != nil {
		s.m, s.keys = match.New(n.Filter), newKeyDoc(n.Index)
	}
	if n.Dedup {
		s.seen = map[storage.RecordID]struct{}{}
	}
	return s
}

func (s *ixScan) open() error {
	if err := s.x.check(); err != nil {
		return err
	}
	if s.h.Dropped != nil && s.h.Dropped() {
		return mongoerr.New(mongoerr.QueryPlanKilled, "index '%s' dropped", s.n.Index.Name)
	}
	s.n.Stats.Seeks++
	s.cur = s.h.Store.Cursor(s.x.Opts.Reader, s.dir, storage.IndexBounds{Lower: s.kb.lower, Upper: s.kb.upper})
	if !s.n.Index.Multikey && s.h.Multikey != nil && s.h.Multikey() {
		if !s.started {
			return ErrReplan
		}
		if s.seen == nil { // from now on a document may have several keys
			s.seen = map[storage.RecordID]struct{}{}
		}
	}
	switch {
	case s.resume != nil:
		to := s.resume
		if s.n.Backward {
			to = append(to, keystring.Above) // backward seeks go below
		}
		s.stay, s.resume = s.cur.Seek(to), nil
	case s.started:
		s.stay = s.cur.SeekBeyond(s.lastKey, s.lastID)
	default:
		return nil
	}
	s.n.Stats.IsEOF = !s.stay
	return s.cur.Err()
}

func (s *ixScan) next(row *Row) (status, error) {
	if s.kb.empty {
		s.n.Stats.IsEOF = true
	}
	if s.cur == nil && !s.n.Stats.IsEOF {
		if err := s.open(); err != nil {
			return eof, err
		}
	}
	if s.n.Stats.IsEOF {
		return eof, nil
	}
	ok := true
	for i := s.x.step; i > 0; i-- {
		if s.stay {
			s.stay = false
		} else if ok {
			ok = s.cur.Next()
		}
		if !ok {
			s.n.Stats.IsEOF = true
			return eof, s.cur.Err()
		}
		s.started = true
		s.n.Stats.KeysExamined++
		take, err := s.accept()
		if err != nil {
			return eof, err
		}
		if !take {
			ok = !s.n.Stats.IsEOF
			continue
		}
		s.n.Stats.Advanced++
		row.ID, row.Doc, row.Index = s.cur.RecordID(), nil, s.n.Index
		row.Key, row.TypeBits = s.cur.KeyString(), s.cur.TypeBits()
		return advanced, s.x.spend(s.x.step - i + 1)
	}
	return needTime, s.x.spend(s.x.step)
}

// accept decides about the present entry; out of bounds it seeks on.
func (s *ixScan) accept() (bool, error) {
	if !s.kb.single {
		v, to, err := s.kb.check(s.cur.KeyString(), s.seekBuf, s.n.Backward)
		if err != nil {
			return false, err
		}
		switch v {
		case behindAll:
			s.n.Stats.IsEOF = true
			return false, nil
		case seekTo:
			s.seekBuf = to
			s.n.Stats.Seeks++
			if s.stay = s.cur.Seek(to); !s.stay {
				s.n.Stats.IsEOF = true
			}
			return false, s.cur.Err()
		}
	}
	if s.m != nil {
		d, err := s.keys.doc(s.cur.KeyString(), s.cur.TypeBits())
		if err != nil {
			return false, err
		}
		if ok, err := s.m.Match(d); !ok || err != nil {
			return false, err
		}
	}
	if s.seen != nil {
		s.n.Stats.DupsTested++
		id := s.cur.RecordID()
		if _, dup := s.seen[id]; dup {
			s.n.Stats.DupsDropped++
			return false, nil
		}
		s.seen[id] = struct{}{}
	}
	return true, nil
}

func (s *ixScan) save() {
	if s.cur == nil {
		return
	}
	switch {
	case s.n.Stats.IsEOF:
	case s.stay:
		s.resume = append([]byte(nil), s.cur.KeyString()...)
	case s.started:
		s.lastKey = append(s.lastKey[:0], s.cur.KeyString()...)
		s.lastID = s.cur.RecordID()
	}
	s.close()
}

func (s *ixScan) close() {
	if s.cur != nil {
		s.cur.Close() // what reading met was reported by Err
		s.cur, s.stay = nil, false
	}
}
