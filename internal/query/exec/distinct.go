package exec

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// distinctScan reads one entry for each value of the first field of an index.
type distinctScan struct {
	x    *Exec
	n    *plan.Node
	h    *Index
	kb   *keyBounds
	keys *keyDoc
	cur  *storage.IndexCursor
	seek []byte // where to go on, nil at the start
}

func newDistinctScan(x *Exec, n *plan.Node) *distinctScan {
	h := n.Index.Ref.(*Index)
	return &distinctScan{x: x, n: n, h: h, kb: encodeBounds(h, n.Bounds), keys: newKeyDoc(n.Index)}
}

// next gives a row for each value; Doc is {path: value} as a flat document. A null key
// can stand for a missing field, so such rows come for every entry, to be fetched.
func (s *distinctScan) next(row *Row) (status, error) {
	if s.n.Stats.IsEOF || s.kb.empty {
		s.n.Stats.IsEOF = true
		return eof, nil
	}
	ok := false
	if s.cur == nil {
		if err := s.x.check(); err != nil {
			return eof, err
		}
		s.cur = s.h.Store.Cursor(s.x.Opts.Reader, storage.Forward, storage.IndexBounds{Lower: s.kb.lower, Upper: s.kb.upper})
	}
	if s.seek == nil {
		ok = s.cur.Next()
	} else {
		ok = s.cur.Seek(s.seek)
	}
	for i := s.x.step; i > 0; i-- {
		if !ok {
			s.n.Stats.IsEOF = true
			return eof, s.cur.Err()
		}
		s.n.Stats.KeysExamined++
		key := s.cur.KeyString()
		if !s.kb.single {
			v, to, err := s.kb.check(key, s.seek, false)
			if err != nil {
				return eof, err
			}
			if v == behindAll {
				s.n.Stats.IsEOF = true
				return eof, nil
			}
			if v == seekTo {
				s.seek = to
				ok = s.cur.Seek(to)
				continue
			}
		}
		n, err := keystring.FieldLen(key, s.h.Ordering.Desc(0))
		if err != nil {
			return eof, err
		}
		vals, err := s.keys.values(key, s.cur.TypeBits())
		if err != nil {
			return eof, err
		}
		row.ID, row.Key, row.TypeBits, row.Index = s.cur.RecordID(), key, s.cur.TypeBits(), s.n.Index
		row.Doc = bson.D("v", vals[0])
		if vals[0].IsNullish() {
			s.seek = append(s.seek[:0], key...)
			if !s.h.Store.ByID {
				s.seek = storage.AppendRecordID(s.seek, row.ID)
			}
			s.seek = append(s.seek, 0)
		} else {
			s.seek = append(append(s.seek[:0], key[:n]...), keystring.Above)
		}
		s.n.Stats.Advanced++
		return advanced, nil
	}
	return needTime, nil
}

func (s *distinctScan) save() { s.close() }

func (s *distinctScan) close() {
	if s.cur != nil {
		s.cur.Close()
		s.cur = nil
	}
}
