package catalog

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/storage"
)

// Index is one index as one version of the catalog knows it. It does not change.
type Index struct {
	Spec  *IndexSpec
	Store storage.IndexStore

	kept    bool // Spec.Kept
	fields  keyFields
	unique  *storage.UniqueKey // of the _id index
	partial *match.Matcher     // nil: all documents
	build   *buildState        // nil once the index is ready
	state   *indexState
}

// indexState is what all versions of an index have in common.
type indexState struct {
	multikey multikeyState
	top      topKey // of the _id index
	accesses atomic.Int64
	since    time.Time
}

// Ordering tells the descending fields.
func (ix *Index) Ordering() keystring.Ordering { return ix.fields.ord }

// Building reports whether the index is not ready for reading yet.
func (ix *Index) Building() bool { return ix.build != nil }

// BuildUUID names the build that is to make the index ready, if it is not.
func (ix *Index) BuildUUID() (id bson.UUID, building bool) {
	if ix.build == nil {
		return id, false
	}
	return ix.build.uuid, true
}

// PartialFilter is the compiled partialFilterExpression, nil for an index of all documents.
func (ix *Index) PartialFilter() *match.Matcher { return ix.partial }

// NoteAccess counts one use of the index by a query, for $indexStats.
func (ix *Index) NoteAccess() { ix.state.accesses.Add(1) }

// Accesses returns how often queries used the index, and since when that is counted.
func (ix *Index) Accesses() (int64, time.Time) { return ix.state.accesses.Load(), ix.state.since }

// AppendKey appends the KeyString of values for the index's first fields: a point to
// seek to. A missing value stands for null, as in the index.
func (ix *Index) AppendKey(dst []byte, vals ...bson.Value) []byte {
	for i, v := range vals {
		if v.IsMissing() {
			v.Type = bson.TypeNull
		}
		dst = keystring.Append(dst, ix.fields.coll.Value(v), ix.fields.ord.Desc(i), nil)
	}
	return dst
}

// appendKeyOf appends the KeyString of a document to dst, for the index on _id.
func (ix *Index) appendKeyOf(dst, doc []byte) []byte {
	name, v := bson.Raw(doc).First()
	if name != "_id" {
		return dst
	}
	return keystring.Append(dst, ix.fields.coll.Value(v), ix.fields.ord.Desc(0), nil)
}

// decodeKey gives the fields of an entry back, by their names in the key pattern.
func (ix *Index) decodeKey(key, typeBits []byte) (bson.Raw, error) {
	b := bson.NewBuilder(nil)
	d := keystring.NewDecoder(key, ix.fields.ord, typeBits)
	for name := range ix.Spec.Key.Elems() {
		if err := d.Next(b, name); err != nil {
			return nil, fmt.Errorf("%w: key of index %s: %w", storage.ErrCorruption, ix.Spec.Name, err)
		}
	}
	if ix.fields.coll != nil {
		return collate.Shown(b.Finish().Value()).Doc(), nil
	}
	return b.Finish(), nil
}

// Cursor opens a cursor over the entries between the bounds.
func (ix *Index) Cursor(r storage.Reader, d storage.Direction, b storage.IndexBounds) *storage.IndexCursor {
	return ix.Store.Cursor(r, d, b)
}

// Multikey reports whether any document has an array on one of the index's paths.
func (ix *Index) Multikey() bool { return ix.state.multikey.any() }

// MultikeyPaths returns for each field the components of its path (from 0) that are
// arrays in some document.
func (ix *Index) MultikeyPaths() [][]int {
	bits := ix.state.multikey.load()
	paths := make([][]int, len(ix.fields.paths))
	for i := range paths {
		for c := range ix.fields.paths[i] {
			if bits[i]>>min(c, 63)&1 != 0 {
				paths[i] = append(paths[i], c)
			}
		}
	}
	return paths
}

// Size estimates the bytes on disk of the entries.
func (ix *Index) Size(e *storage.Engine) (uint64, error) { return e.TableSize(ix.Store.Table) }

// multikeyBits has for each field of an index the components that are arrays.
type multikeyBits [keystring.MaxFields]uint64

// multikeyState knows the arrays on an index's paths. A bit is shown to readers from
// the moment a writer meets the array, before its unit commits, so that no reader sees
// the entries without it; it is persisted by every unit until one has committed.
type multikeyState struct {
	set       atomic.Bool // some bit is shown
	mu        sync.RWMutex
	shown     multikeyBits
	persisted multikeyBits
}

func (m *multikeyState) any() bool { return m.set.Load() }

func (m *multikeyState) load() multikeyBits {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.shown
}

// show adds bits and returns those that the caller's unit must persist.
func (m *multikeyState) show(bits *multikeyBits, fields int) (todo multikeyBits, any bool) {
	m.mu.RLock()
	known := true
	for i := range fields {
		todo[i] = bits[i] &^ m.persisted[i]
		any = any || todo[i] != 0
		known = known && bits[i]&^m.shown[i] == 0
	}
	m.mu.RUnlock()
	if known {
		return todo, any
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range fields {
		m.shown[i] |= bits[i]
	}
	m.set.Store(true)
	return todo, any
}

// committed notes that the bits are persisted (and shown: when they were loaded).
func (m *multikeyState) committed(bits *multikeyBits) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, b := range bits {
		m.persisted[i] |= b
		m.shown[i] |= b
		if b != 0 {
			m.set.Store(true)
		}
	}
}
