package pipeline

import (
	"bytes"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// MaxMemory is how much a blocking stage keeps in memory before it spills. It is a
// variable for tests only.
var MaxMemory int64 = 100 << 20

// docSorter orders documents by encoded keys, equal ones in the order in which they
// came. With a limit it keeps only the first ones; beyond MaxMemory it spills.
type docSorter struct {
	o     *Options
	stage string
	limit int64 // 0: none

	recs  []sortRec
	chunk []byte
	bytes int64
	worst []byte // with a limit that is reached: keys not below this one are out

	spill Sorter
	pairs Pairs
	pos   int
	given int64
}

type sortRec struct{ key, doc []byte }

// add copies key and doc.
func (s *docSorter) add(key, doc []byte) error {
	if s.spill != nil {
		return s.spill.Add(key, doc)
	}
	if s.worst != nil && bytes.Compare(key, s.worst) >= 0 {
		return nil
	}
	n := len(key) + len(doc)
	if cap(s.chunk)-len(s.chunk) < n {
		s.chunk = make([]byte, 0, max(chunkSize(s.bytes), n))
	}
	from := len(s.chunk)
	s.chunk = append(append(s.chunk, key...), doc...)
	b := s.chunk[from:len(s.chunk):len(s.chunk)]
	s.recs = append(s.recs, sortRec{b[:len(key):len(key)], b[len(key):]})
	s.bytes += int64(n) + 48
	if s.limit > 0 && int64(len(s.recs)) >= 2*s.limit+64 {
		s.prune()
	}
	if s.bytes > MaxMemory {
		return s.overflow()
	}
	return nil
}

// chunkSize grows with what is kept: short results stay cheap.
func chunkSize(held int64) int { return int(min(max(held, 4<<10), 1<<20)) }

func (s *docSorter) sortRecs() {
	slices.SortStableFunc(s.recs, func(a, b sortRec) int { return bytes.Compare(a.key, b.key) })
}

// prune keeps the first documents only and moves them together, so that the memory of
// the others can go.
func (s *docSorter) prune() {
	s.sortRecs()
	if int64(len(s.recs)) <= s.limit {
		return
	}
	kept := s.recs[:s.limit]
	s.bytes = 0
	for i, r := range kept {
		kept[i] = sortRec{bytes.Clone(r.key), bytes.Clone(r.doc)}
		s.bytes += int64(len(r.key)+len(r.doc)) + 48
	}
	clear(s.recs[s.limit:])
	s.recs = kept
	s.worst = kept[s.limit-1].key
	s.chunk = nil
}

func (s *docSorter) overflow() error {
	if s.limit > 0 {
		if s.prune(); s.bytes <= MaxMemory {
			return nil
		}
	}
	if !s.o.AllowDiskUse {
		return mongoerr.New(mongoerr.QueryExceededMemoryLimit,
			"%s exceeded memory limit of %d bytes, but did not opt in to external sorting.", s.stage, MaxMemory)
	}
	s.spill = s.o.Host.NewSorter(MaxMemory)
	for _, r := range s.recs {
		if err := s.spill.Add(r.key, r.doc); err != nil {
			return err
		}
	}
	s.recs, s.chunk = nil, nil
	return nil
}

// finish ends adding.
func (s *docSorter) finish() (err error) {
	if s.spill != nil {
		s.pairs, err = s.spill.Sorted()
		return err
	}
	s.sortRecs()
	return nil
}

// next returns the next document in order, nil at the end.
func (s *docSorter) next() (bson.Raw, error) {
	if s.limit > 0 && s.given == s.limit {
		return nil, nil
	}
	s.given++
	if s.pairs != nil {
		if !s.pairs.Next() {
			return nil, s.pairs.Err()
		}
		return bson.Raw(s.pairs.Value()), nil
	}
	if s.pos == len(s.recs) {
		return nil, nil
	}
	d := s.recs[s.pos].doc
	s.pos++
	return bson.Raw(d), nil
}

func (s *docSorter) close() {
	if s.pairs != nil {
		s.pairs.Close() // temporary files: the next start removes what is left
		s.pairs = nil
	}
	if s.spill != nil {
		s.spill.Close()
		s.spill = nil
	}
	s.recs, s.chunk = nil, nil
}
