package exec

import (
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/query/plan"
	"github.com/cairndb/cairn/internal/storage"
)

// sortMerge merges kids that are each in the wanted order, by the keys of their index
// entries.
type sortMerge struct {
	x    *Exec
	n    *plan.Node
	kids []mergeKid
	seen map[storage.RecordID]struct{}
}

type mergeKid struct {
	stage stage
	row   Row
	vals  []bson.Value // of the sort pattern, with bytes of their own
	has   bool
	done  bool
	keys  *keyDoc
	ord   []int // for each sort part the number of the index part
}

func newSortMerge(x *Exec, n *plan.Node, kids []stage) *sortMerge {
	s := &sortMerge{x: x, n: n, seen: map[storage.RecordID]struct{}{}}
	for i, k := range kids {
		scan := n.Kids[i]
		for len(scan.Kids) > 0 {
			scan = scan.Kids[0]
		}
		mk := mergeKid{stage: k, keys: newKeyDoc(scan.Index)}
		for _, p := range n.SortPattern.Parts {
			mk.ord = append(mk.ord, slices.IndexFunc(scan.Index.Parts, func(kp plan.KeyPart) bool { return kp.Path == p.Path }))
		}
		s.kids = append(s.kids, mk)
	}
	return s
}

func (s *sortMerge) next(row *Row) (status, error) {
	for i := s.x.step; i > 0; i-- {
		// Every kid that is not at its end must show its next row.
		best := -1
		for j := range s.kids {
			k := &s.kids[j]
			if !k.has && !k.done {
				st, err := s.advance(k)
				if err != nil || st == needTime {
					return st, err
				}
			}
			if k.has && (best < 0 || s.compare(k, &s.kids[best]) < 0) {
				best = j
			}
		}
		if best < 0 {
			s.n.Stats.IsEOF = true
			return eof, nil
		}
		k := &s.kids[best]
		k.has = false
		s.n.Stats.DupsTested++
		if _, dup := s.seen[k.row.ID]; dup {
			s.n.Stats.DupsDropped++
			continue
		}
		s.seen[k.row.ID] = struct{}{}
		*row = k.row
		s.n.Stats.Advanced++
		return advanced, nil
	}
	return needTime, nil
}

func (s *sortMerge) advance(k *mergeKid) (status, error) {
	st, err := k.stage.next(&k.row)
	if err != nil || st == needTime {
		return st, err
	}
	if st == eof {
		k.done = true
		k.stage.close()
		return st, nil
	}
	k.has = true
	vals, err := k.keys.values(k.row.Key, k.row.TypeBits)
	if err != nil {
		return eof, err
	}
	k.vals = k.vals[:0]
	for _, i := range k.ord {
		k.vals = append(k.vals, vals[i])
	}
	return advanced, nil
}

func (s *sortMerge) compare(a, b *mergeKid) int {
	for i, p := range s.n.SortPattern.Parts {
		if c := bson.Compare(a.vals[i], b.vals[i]); c != 0 {
			if p.Descending {
				return -c
			}
			return c
		}
	}
	return 0
}

// save gives up the kids' cursors; the rows that they show already get bytes of their own.
func (s *sortMerge) save() {
	for i := range s.kids {
		k := &s.kids[i]
		if k.has {
			k.row.Key = slices.Clone(k.row.Key)
			k.row.TypeBits = slices.Clone(k.row.TypeBits)
			k.row.Doc = slices.Clone(k.row.Doc)
		}
		k.stage.save()
	}
}

func (s *sortMerge) close() {
	for i := range s.kids {
		s.kids[i].stage.close()
	}
}
