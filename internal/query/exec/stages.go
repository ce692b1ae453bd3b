package exec

import (
	"errors"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/project"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// empty is EOF.
type empty struct{ n *plan.Node }

func (empty) next(*Row) (status, error) { return eof, nil }
func (empty) save()                     {}
func (empty) close()                    {}

// pass hands its kid's rows on (SUBPLAN).
type pass struct {
	n   *plan.Node
	kid stage
}

func (s *pass) next(row *Row) (status, error) {
	st, err := s.kid.next(row)
	count(s.n, st)
	return st, err
}
func (s *pass) save()  { s.kid.save() }
func (s *pass) close() { s.kid.close() }

func count(n *plan.Node, st status) {
	switch st {
	case advanced:
		n.Stats.Advanced++
	case eof:
		n.Stats.IsEOF = true
	}
}

// express reads one document by _id: two gets, no cursor.
type express struct {
	x    *Exec
	n    *plan.Node
	done bool
	key  []byte
	buf  []byte
}

func (s *express) next(row *Row) (status, error) {
	if s.done {
		s.n.Stats.IsEOF = true
		return eof, nil
	}
	s.done = true
	s.n.Stats.IsEOF = true
	if err := s.x.check(); err != nil {
		return eof, err
	}
	h := s.n.Index.Ref.(*Index)
	s.key = keystring.Append(s.key[:0], s.n.Bounds[0][0].Lo, false, nil)
	id, bits, err := h.Store.Find(s.x.Opts.Reader, s.key, s.buf)
	if errors.Is(err, storage.ErrNotFound) {
		return eof, nil
	}
	if err != nil {
		return eof, err
	}
	s.n.Stats.KeysExamined++
	doc, err := s.x.Coll.Records.Get(s.x.Opts.Reader, id, bits)
	if errors.Is(err, storage.ErrNotFound) {
		return eof, nil
	}
	if err != nil {
		return eof, err
	}
	s.n.Stats.DocsExamined++
	s.n.Stats.Advanced++
	s.buf = doc
	*row = Row{ID: id, Doc: doc}
	return advanced, nil
}

func (s *express) save()  {}
func (s *express) close() {}

// union gives the rows of its kids one after the other, each record once.
type union struct {
	x    *Exec
	n    *plan.Node
	kids []stage
	at   int
	seen map[storage.RecordID]struct{}
}

func (s *union) next(row *Row) (status, error) {
	for i := s.x.step; i > 0; i-- {
		if s.at == len(s.kids) {
			s.n.Stats.IsEOF = true
			return eof, nil
		}
		st, err := s.kids[s.at].next(row)
		if err != nil || st == needTime {
			return st, err
		}
		if st == eof {
			s.kids[s.at].close()
			s.at++
			continue
		}
		s.n.Stats.DupsTested++
		if _, dup := s.seen[row.ID]; dup {
			s.n.Stats.DupsDropped++
			continue
		}
		s.seen[row.ID] = struct{}{}
		s.n.Stats.Advanced++
		return advanced, nil
	}
	return needTime, nil
}

func (s *union) save() {
	for _, k := range s.kids {
		k.save()
	}
}

func (s *union) close() {
	for _, k := range s.kids {
		k.close()
	}
}

// skip drops the first rows.
type skip struct {
	n    *plan.Node
	kid  stage
	left int64
}

func (s *skip) next(row *Row) (status, error) {
	for i := slice; i > 0; i-- {
		st, err := s.kid.next(row)
		if err != nil || st != advanced {
			if st == eof {
				s.n.Stats.IsEOF = true
			}
			return st, err
		}
		if s.left > 0 {
			s.left--
			continue
		}
		s.n.Stats.Advanced++
		return advanced, nil
	}
	return needTime, nil
}
func (s *skip) save()  { s.kid.save() }
func (s *skip) close() { s.kid.close() }

// limit ends after a number of rows.
type limit struct {
	n    *plan.Node
	kid  stage
	left int64
}

func (s *limit) next(row *Row) (status, error) {
	if s.left == 0 {
		s.n.Stats.IsEOF = true
		return eof, nil
	}
	st, err := s.kid.next(row)
	if st == advanced && err == nil {
		s.left--
	}
	count(s.n, st)
	return st, err
}
func (s *limit) save()  { s.kid.save() }
func (s *limit) close() { s.kid.close() }

// projection reshapes rows.
type projection struct {
	x       *Exec
	n       *plan.Node
	kid     stage
	buf     []byte
	keys    *keyDoc
	details match.Details
	extra   project.Extra
	row     *Row
}

func (s *projection) next(row *Row) (status, error) {
	st, err := s.kid.next(row)
	if st != advanced || err != nil {
		count(s.n, st)
		return st, err
	}
	if row.Doc == nil {
		if s.keys == nil || s.keys.ix != row.Index {
			s.keys = newKeyDoc(row.Index)
		}
		if row.Doc, err = s.keys.doc(row.Key, row.TypeBits); err != nil {
			return eof, err
		}
	}
	if s.n.Projection.NeedsPositional() && s.x.Opts.Full != nil {
		if _, err := s.x.Opts.Full.MatchDetails(row.Doc, &s.details); err != nil {
			return eof, err
		}
		s.extra.Details = &s.details
	}
	if s.extra.Env == nil && s.x.Opts.Env != nil {
		env := *s.x.Opts.Env
		env.Meta = s.meta
		s.extra.Env = &env
	}
	s.row = row
	if s.buf, err = s.n.Projection.Append(s.buf[:0], row.Doc, &s.extra); err != nil {
		return eof, err
	}
	row.Doc = bson.Raw(s.buf)
	s.n.Stats.Advanced++
	return advanced, nil
}

// meta answers {$meta: …}.
func (s *projection) meta(name string) bson.Value {
	switch name {
	case "recordId":
		return bson.V(int64(s.row.ID))
	case "indexKey":
		if s.row.Key != nil {
			if d, err := newKeyDoc(s.row.Index).doc(s.row.Key, s.row.TypeBits); err == nil {
				return d.Value()
			}
		}
	}
	return bson.Value{}
}

func (s *projection) save()  { s.kid.save() }
func (s *projection) close() { s.kid.close() }

// returnKey gives the index keys instead of the documents.
type returnKey struct {
	x    *Exec
	n    *plan.Node
	kid  stage
	keys *keyDoc
}

func (s *returnKey) next(row *Row) (status, error) {
	st, err := s.kid.next(row)
	count(s.n, st)
	if st != advanced || err != nil {
		return st, err
	}
	row.Doc = bson.Empty
	if row.Key != nil {
		if s.keys == nil || s.keys.ix != row.Index {
			s.keys = newKeyDoc(row.Index)
		}
		row.Doc, err = s.keys.doc(row.Key, row.TypeBits)
	}
	return st, err
}
func (s *returnKey) save()  { s.kid.save() }
func (s *returnKey) close() { s.kid.close() }
