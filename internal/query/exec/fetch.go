package exec

import (
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

const (
	// nearIDs is how far ahead a record may be for a walk to it to beat a get.
	nearIDs = 8
	// nearRuns is how many near records in a row make a fetch walk.
	nearRuns = 3
)

// fetch reads the record of each row and filters it. Where an index is in the order of
// the records, as one on a growing key is, it walks over them instead of one get each.
type fetch struct {
	x    *Exec
	n    *plan.Node
	kid  stage
	m    *match.Matcher
	buf  []byte
	last storage.RecordID
	near int                  // near records in a row
	cur  storage.RecordCursor // nil: gets
	at   storage.RecordID     // where cur stands, 0: nowhere
}

func newFetch(x *Exec, n *plan.Node, kid stage) *fetch {
	s := &fetch{x: x, n: n, kid: kid}
	if !x.Opts.Stable && !entriesLast(n) {
		// The record may be newer than the index entry: all predicates are checked.
		s.m = x.Opts.Full
	}
	if s.m == nil && n.Filter != nil {
		s.m = match.New(n.Filter)
	}
	return s
}

// entriesLast reports whether what the entries said of a record holds as long as it exists: a
// document's _id never changes, so what a scan of that index has checked is not checked again.
func entriesLast(n *plan.Node) bool {
	return len(n.Kids) == 1 && n.Kids[0].Stage == plan.IxScan && n.Kids[0].Index.IsID
}

func (s *fetch) next(row *Row) (status, error) {
	for i := s.x.step; i > 0; i-- {
		st, err := s.kid.next(row)
		if st != advanced || err != nil {
			if st == eof {
				s.n.Stats.IsEOF = true
			}
			return st, err
		}
		if row.Doc == nil {
			row.Doc, err = s.read(row.ID)
			if errors.Is(err, storage.ErrNotFound) {
				row.Doc = nil
				continue
			}
			if err != nil {
				return eof, err
			}
			s.n.Stats.DocsExamined++
		} else {
			s.n.Stats.NCount++
		}
		if s.m != nil {
			ok, err := s.m.Match(row.Doc)
			if err != nil {
				return eof, err
			}
			if !ok {
				s.x.bytes += int64(len(row.Doc))
				continue
			}
		}
		s.n.Stats.Advanced++
		return advanced, nil
	}
	return needTime, nil
}

// read returns the record, valid until the next one is read.
func (s *fetch) read(id storage.RecordID) (bson.Raw, error) {
	ahead := id - s.last
	s.last = id
	if ahead > 0 && ahead <= nearIDs {
		s.near++
	} else {
		s.near = 0
	}
	if s.near < nearRuns {
		s.closeCursor()
		doc, err := s.x.Coll.Records.Get(s.x.Opts.Reader, id, s.buf)
		if err == nil {
			s.buf = doc
		}
		return doc, err
	}
	return s.walk(id)
}

// walk goes on to the record from the one before.
func (s *fetch) walk(id storage.RecordID) (bson.Raw, error) {
	if s.cur == nil {
		var err error
		if s.cur, err = s.x.Coll.Records.CursorRange(s.x.ctx(), s.x.Opts.Reader, storage.Forward, 0, 0); err != nil {
			return nil, err
		}
	}
	ok := true
	if s.at == 0 || s.at > id {
		ok = s.cur.Seek(id)
	} else {
		for ok && s.at < id {
			if ok = s.cur.Next(); ok {
				s.at = s.cur.RecordID()
			}
		}
	}
	if !ok {
		s.at = 0
		if err := s.cur.Err(); err != nil {
			return nil, err
		}
		return nil, storage.ErrNotFound
	}
	if s.at = s.cur.RecordID(); s.at != id {
		return nil, storage.ErrNotFound
	}
	return bson.Raw(s.cur.Value()), nil
}

func (s *fetch) closeCursor() {
	if s.cur != nil {
		s.cur.Close() // what reading met was reported by Err
		s.cur, s.at = nil, 0
	}
}

func (s *fetch) save() {
	s.closeCursor()
	s.near = 0
	s.kid.save()
}

func (s *fetch) close() {
	s.closeCursor()
	s.kid.close()
}
