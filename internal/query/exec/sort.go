package exec

import (
	"container/heap"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/sortkey"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// topMax is the largest limit for which the best rows are kept in a heap.
const topMax = 10000

// sortStage reads all rows of its kid, then gives them in order. With a small limit it
// keeps only the best; otherwise it sorts in memory and spills.
type sortStage struct {
	x    *Exec
	n    *plan.Node
	kid  stage
	pat  *sortkey.Pattern
	keys *keyDoc
	key  sortkey.Key
	done bool

	top *topRows
	out int

	sorter *storage.Sorter
	sorted *storage.SortedPairs
	enc    []byte
	val    []byte
	left   int64 // rows still to give if limited, -1: all
}

func newSort(x *Exec, n *plan.Node, kid stage) *sortStage {
	s := &sortStage{x: x, n: n, kid: kid, pat: n.SortPattern, left: -1}
	if n.LimitAmount > 0 {
		s.left = n.LimitAmount
		if n.LimitAmount <= topMax {
			s.top = &topRows{pat: s.pat, k: int(n.LimitAmount)}
		}
	}
	return s
}

func (s *sortStage) next(row *Row) (status, error) {
	if !s.done {
		st, err := s.fill(row)
		if err != nil || st == needTime {
			return st, err
		}
	}
	if s.left == 0 {
		s.n.Stats.IsEOF = true
		return eof, nil
	}
	if s.top != nil {
		if s.out == len(s.top.rows) {
			s.n.Stats.IsEOF = true
			return eof, nil
		}
		r := s.top.rows[s.out]
		s.out++
		*row = Row{ID: r.id, Doc: r.doc}
	} else {
		if !s.sorted.Next() {
			s.n.Stats.IsEOF = true
			return eof, s.sorted.Err()
		}
		v := s.sorted.Value()
		*row = Row{ID: storage.DecodeRecordID(v), Doc: bson.Raw(v[8:])}
	}
	if s.left > 0 {
		s.left--
	}
	s.n.Stats.Advanced++
	return advanced, nil
}

// fill takes rows from the kid until it ends.
func (s *sortStage) fill(row *Row) (status, error) {
	for i := s.x.step; i > 0; i-- {
		st, err := s.kid.next(row)
		if err != nil || st == needTime {
			return st, err
		}
		if st == eof {
			s.kid.close()
			return eof, s.finish()
		}
		if row.Doc == nil {
			if s.keys == nil || s.keys.ix != row.Index {
				s.keys = newKeyDoc(row.Index)
			}
			if row.Doc, err = s.keys.doc(row.Key, row.TypeBits); err != nil {
				return eof, err
			}
		}
		if err := s.add(row); err != nil {
			return eof, err
		}
	}
	return needTime, nil
}

func (s *sortStage) add(row *Row) error {
	var err error
	if s.key, err = s.pat.Key(s.key[:0], row.Doc); err != nil {
		return err
	}
	s.n.Stats.SortedBytes += int64(len(row.Doc))
	if s.top != nil {
		if err := s.top.add(s.key, row); err != nil {
			return err
		}
		if s.top.bytes > SortMemory {
			return s.topToSorter()
		}
		return nil
	}
	return s.addPair(s.key, row.ID, row.Doc)
}

func (s *sortStage) addPair(k sortkey.Key, id storage.RecordID, doc bson.Raw) error {
	if s.sorter == nil {
		s.sorter = s.x.Opts.NewSorter(SortMemory)
	}
	s.enc = s.enc[:0]
	for i := range k {
		s.enc = keystring.Append(s.enc, s.pat.Collation.Value(k[i]), s.pat.Parts[i].Descending, nil)
	}
	s.val = append(storage.AppendRecordID(s.val[:0], id), doc...)
	if s.x.Opts.NoDiskUse && s.n.Stats.SortedBytes > SortMemory {
		return mongoerr.New(mongoerr.QueryExceededMemoryLimit, "Sort exceeded memory limit of %d bytes, but did not opt in to external sorting.", SortMemory)
	}
	return s.sorter.Add(s.enc, s.val)
}

// topToSorter goes on with the sorter when the best rows are too large to keep.
func (s *sortStage) topToSorter() error {
	rows := s.top.rows
	s.top = nil
	slices.SortFunc(rows, func(a, b *topRow) int { return int(a.seq - b.seq) })
	for _, r := range rows {
		if err := s.addPair(r.key, r.id, r.doc); err != nil {
			return err
		}
	}
	return nil
}

func (s *sortStage) finish() error {
	s.done = true
	if s.top != nil {
		s.top.order()
		return nil
	}
	if s.sorter == nil {
		s.top = &topRows{}
		return nil
	}
	var err error
	if s.sorted, err = s.sorter.Sorted(); err != nil {
		return err
	}
	if n := s.sorter.Spilled(); n > 0 {
		s.n.Stats.SpilledBytes, s.n.Stats.Spills = n, (n+SortMemory-1)/SortMemory
	}
	return nil
}

func (s *sortStage) save() {
	if !s.done {
		s.kid.save()
	}
}

func (s *sortStage) close() {
	s.kid.close()
	if s.sorted != nil {
		s.sorted.Close() // temporary files: the next start removes what is left
		s.sorted = nil
	}
	if s.sorter != nil {
		s.sorter.Close()
		s.sorter = nil
	}
	s.top = &topRows{}
}

// topRow is one of the best rows so far; key aliases doc.
type topRow struct {
	key sortkey.Key
	id  storage.RecordID
	doc bson.Raw
	seq int64
}

// topRows keeps the k first rows in order, in a heap with the last of them on top.
// Rows with equal keys stay in the order in which they came.
type topRows struct {
	pat   *sortkey.Pattern
	k     int
	rows  []*topRow
	seq   int64
	bytes int64
}

func (t *topRows) compare(a, b *topRow) int {
	if c := t.pat.CompareKeys(a.key, b.key); c != 0 {
		return c
	}
	return int(a.seq - b.seq)
}

// Len, Less, Swap, Push and Pop make topRows a heap.
func (t *topRows) Len() int           { return len(t.rows) }
func (t *topRows) Less(i, j int) bool { return t.compare(t.rows[i], t.rows[j]) > 0 }
func (t *topRows) Swap(i, j int)      { t.rows[i], t.rows[j] = t.rows[j], t.rows[i] }
func (t *topRows) Push(x any)         { t.rows = append(t.rows, x.(*topRow)) }
func (t *topRows) Pop() any {
	r := t.rows[len(t.rows)-1]
	t.rows = t.rows[:len(t.rows)-1]
	return r
}

func (t *topRows) add(k sortkey.Key, row *Row) error {
	t.seq++
	if len(t.rows) < t.k {
		r := &topRow{}
		if err := t.fill(r, row); err != nil {
			return err
		}
		heap.Push(t, r)
		return nil
	}
	worst := t.rows[0]
	if t.pat.CompareKeys(k, worst.key) >= 0 {
		return nil
	}
	t.bytes -= int64(len(worst.doc))
	if err := t.fill(worst, row); err != nil {
		return err
	}
	heap.Fix(t, 0)
	return nil
}

func (t *topRows) fill(r *topRow, row *Row) error {
	r.doc = append(r.doc[:0], row.Doc...)
	r.id, r.seq = row.ID, t.seq
	t.bytes += int64(len(r.doc))
	var err error
	r.key, err = t.pat.Key(r.key[:0], r.doc)
	return err
}

func (t *topRows) order() { slices.SortFunc(t.rows, t.compare) }
