// Package expect knows what a restored server must hold, without having replayed anything.
//
// It owns the expectation: the sum of each collection that no entry touched, as the full backup
// recorded it, and for documents that entries wrote what the last of them says: the document
// byte for byte after an insert or a replacement, its absence after a delete, its presence
// after an update. So the result of a restore is judged by something other than the code that
// made it.
//
// Memory is bounded: above a limit documents are sampled by a hash of their _id, and the
// sample is thinned as more come. It must not know a server.
package expect

import (
	"crypto/sha256"
	"hash/fnv"
	"math"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/docsum"
	"github.com/cairndb/cairn/internal/bson"
)

// DefaultLimit is the number of documents that are remembered at most.
const DefaultLimit = 200_000

// State is what is known of a document.
type State struct {
	ID bson.Value
	// Absent: it was deleted last. Otherwise it is there, and with Known its SHA-256 is Hash.
	Absent, Known bool
	Hash          [sha256.Size]byte
}

// Set is what is expected. It is used by one goroutine.
type Set struct {
	limit int
	keep  uint64 // documents whose hash is above are not remembered
	n     int
	// whole are the sums of collections that no entry touched; docs the documents of those
	// that were.
	whole map[string]docsum.Sum
	docs  map[string]map[string]State
	// loose are capped collections: they forget documents without an entry.
	loose map[string]bool
	// Seen counts the writes of documents, remembered or not.
	Seen int64
}

// New makes an empty set that remembers at most limit documents.
func New(limit int) *Set {
	return &Set{limit: limit, keep: math.MaxUint64, whole: map[string]docsum.Sum{}, docs: map[string]map[string]State{}, loose: map[string]bool{}}
}

// Collection says that the backup holds a collection; exact that its sum is that of the moment
// where the entries begin.
func (s *Set) Collection(ns string, sum docsum.Sum, exact, capped bool) {
	if capped {
		s.loose[ns] = true
	}
	if exact {
		s.whole[ns] = sum
	} else {
		s.docs[ns] = map[string]State{}
	}
}

// Whole are the collections of which everything is known, with their sums.
func (s *Set) Whole() map[string]docsum.Sum { return s.whole }

// Touched are the collections of which documents are known, sorted.
func (s *Set) Touched() []string {
	var all []string
	for ns := range s.docs {
		if !s.loose[ns] {
			all = append(all, ns)
		}
	}
	slices.Sort(all)
	return all
}

// Documents are those that are known of a touched collection.
func (s *Set) Documents(ns string) map[string]State { return s.docs[ns] }

// Sampled reports whether some documents were left out.
func (s *Set) Sampled() bool { return s.keep != math.MaxUint64 }

// Key is how Documents names an _id.
func Key(id bson.Value) string { return string(byte(id.Type)) + string(id.Data) }

// Unit takes what takes effect next, as the restored server has it (filtered and renamed).
func (s *Set) Unit(u *entry.Unit) error {
	for i := range u.Entries {
		if err := s.entry(&u.Entries[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) entry(e *entry.Entry) error {
	if class, _ := e.Class(); class != entry.Apply {
		return nil
	}
	if e.Kind.HasOps() {
		ops, err := e.Ops()
		if err != nil {
			return err
		}
		for i := range ops {
			if err := s.entry(&ops[i]); err != nil {
				return err
			}
		}
		return nil
	}
	ns := e.Namespace()
	switch e.Kind {
	case entry.Insert, entry.Update, entry.Delete:
		s.write(ns, e)
	case entry.Create:
		s.forget(ns)
		s.docs[strings.Clone(ns)] = map[string]State{}
		if e.O.Get("capped").Truthy() {
			s.loose[strings.Clone(ns)] = true
		}
	case entry.Drop:
		s.forget(ns)
	case entry.EmptyCapped, entry.ConvertToCapped, entry.TruncateRange:
		s.forget(ns)
		s.loose[strings.Clone(ns)] = true
	case entry.DropDatabase:
		if !e.Partial {
			s.forgetDatabase(e.DB)
		}
	case entry.RenameCollection:
		s.rename(ns, strings.Clone(e.RenameTarget()))
	}
	return nil
}

func (s *Set) rename(from, to string) {
	whole, isWhole := s.whole[from]
	docs, isDocs := s.docs[from]
	loose := s.loose[from]
	delete(s.docs, from) // not forgotten: they move
	s.forget(from)
	s.forget(to)
	if isWhole {
		s.whole[to] = whole
	}
	if isDocs {
		s.docs[to] = docs
	}
	if loose {
		s.loose[to] = true
	}
}

func (s *Set) forget(ns string) {
	s.n -= len(s.docs[ns])
	delete(s.whole, ns)
	delete(s.docs, ns)
	delete(s.loose, ns)
}

func (s *Set) forgetDatabase(db string) {
	for ns := range s.whole {
		if strings.HasPrefix(ns, db+".") {
			delete(s.whole, ns)
		}
	}
	for ns := range s.docs {
		if strings.HasPrefix(ns, db+".") {
			s.forget(ns)
		}
	}
}

func (s *Set) write(ns string, e *entry.Entry) {
	s.Seen++
	docs := s.docs[ns]
	if docs == nil {
		ns = strings.Clone(ns)
		docs = map[string]State{}
		s.docs[ns] = docs
		delete(s.whole, ns)
	}
	if s.loose[ns] {
		return
	}
	id := e.ID()
	key := Key(id)
	if hash(key) > s.keep {
		return
	}
	old, there := docs[key]
	if !there {
		if s.n >= s.limit {
			s.thin()
			if hash(key) > s.keep {
				return
			}
		}
		s.n++
		old.ID = id.Clone()
	}
	switch {
	case e.Kind == entry.Insert:
		old.Absent, old.Known, old.Hash = false, true, sha256.Sum256(e.O)
	case e.Kind == entry.Delete:
		old.Absent, old.Known = true, false
	case replaces(e.O):
		old.Absent, old.Known, old.Hash = false, true, sha256.Sum256(e.O)
	default:
		old.Absent, old.Known = false, false
	}
	docs[key] = old
}

// replaces tells an update that is the whole new document.
func replaces(o bson.Raw) bool {
	name, _ := o.First()
	return !strings.HasPrefix(name, "$") && !(o.Has("$v") && o.Has("diff"))
}

// thin halves the share of documents that are remembered.
func (s *Set) thin() {
	for s.n >= s.limit && s.keep > 0 {
		s.keep /= 2
		for _, docs := range s.docs {
			for k := range docs {
				if hash(k) > s.keep {
					delete(docs, k)
					s.n--
				}
			}
		}
	}
}

// hash spreads keys evenly: FNV alone leaves the high bits of short keys alike.
func hash(key string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
