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
}

// maxWritten bounds the names that a manifest carries.
const maxWritten = 1000

func (w *written) add(e *entry.Entry) error {
	switch {
	case e.Kind == entry.Noop:
		return nil
	case e.Kind.IsCRUD():
		w.count(e.NS)
		return nil
	}
	touches, err := e.Touches()
	if err != nil {
		return err
	}
	for _, ns := range touches {
		w.count(ns)
	}
	return nil
}

func (w *written) count(ns string) {
	n, there := w.Namespaces[ns]
	switch {
	case there:
		w.Namespaces[ns] = n + 1
	case len(w.Namespaces) >= maxWritten:
		w.More = true
	default:
		if w.Namespaces == nil {
			w.Namespaces = map[string]int64{}
		}
		w.Namespaces[strings.Clone(ns)] = 1
	}
}

func (w *written) merge(o *written) {
	w.More = w.More || o.More
	for ns, n := range o.Namespaces {
		w.count(ns)
		if c, there := w.Namespaces[ns]; there {
			w.Namespaces[ns] = c + n - 1
		}
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
