package pitr

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/repo"
)

// written counts the entries of each namespace in a piece of oplog, so that one can say what a
// replay touches without reading it.
type written struct {
	Namespaces map[string]int64 `json:"namespaces,omitempty"`
	// More tells that there were more than are named.
	More bool `json:"more,omitempty"`

	run  string // the namespace of the plain entries that came last
	runs int64  // of them that are not counted above yet
}

// maxWritten bounds the names that a manifest carries.
const maxWritten = 1000

// plain counts a plain entry.
func (w *written) plain(h *entry.Head) {
	if h.Kind == entry.Noop {
		return
	}
	if string(h.NS) != w.run {
		w.settle()
		w.run = string(h.NS)
	}
	w.runs++
}

// settle counts what plain has left for later.
func (w *written) settle() {
	if w.runs > 0 {
		w.count(w.run, w.runs)
		w.runs = 0
	}
}

// details is w as a manifest has it.
func (w *written) details() (json.RawMessage, error) {
	w.settle()
	return json.Marshal(w)
}

func (w *written) add(e *entry.Entry) error {
	switch {
	case e.Kind == entry.Noop:
		return nil
	case e.Kind.IsCRUD():
		w.count(e.NS, 1)
		return nil
	}
	touches, err := e.Touches()
	if err != nil {
		return err
	}
	for _, ns := range touches {
		w.count(ns, 1)
	}
	return nil
}

// count keeps nothing of ns, which may be in memory that is used again: setting the value of a key that is
// there replaces the key as well.
func (w *written) count(ns string, n int64) {
	ns = strings.Clone(ns)
	before, there := w.Namespaces[ns]
	switch {
	case there:
		w.Namespaces[ns] = before + n
	case len(w.Namespaces) >= maxWritten:
		w.More = true
	default:
		if w.Namespaces == nil {
			w.Namespaces = map[string]int64{}
		}
		w.Namespaces[ns] = n
	}
}

func (w *written) merge(o *written) {
	w.More = w.More || o.More
	for ns, n := range o.Namespaces {
		w.count(ns, n)
	}
}

// writtenIn reads it back from a full backup's or a slice's manifest.
func writtenIn(m *repo.Manifest) (w written, err error) {
	if len(m.Details) == 0 {
		return w, nil
	}
	if err := json.Unmarshal(m.Details, &w); err != nil {
		return written{More: true}, fmt.Errorf("backup %s: its details: %w", m.ID, err)
	}
	return w, nil
}
