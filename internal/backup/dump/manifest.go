package dump

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cairndb/cairn/internal/backup/tool"
)

// manifest is the file of --manifest.
type manifest struct {
	Format      int                  `json:"format"` // 1
	Tool        string               `json:"tool"`
	Server      string               `json:"serverVersion"`
	Set         string               `json:"replicaSet,omitempty"`
	Started     time.Time            `json:"started"`
	Finished    time.Time            `json:"finished"`
	Compression string               `json:"compression,omitempty"`
	Documents   int64                `json:"documents"`
	Bytes       int64                `json:"bytes,omitempty"` // of documents, before compression; not of resumed parts
	Oplog       *manifestOplog       `json:"oplog,omitempty"`
	Collections []manifestCollection `json:"collections"`
	Files       []stored             `json:"files"`
	Notes       []string             `json:"notes,omitempty"`
}

type manifestOplog struct {
	Start   string   `json:"start"` // seconds:increment, as --oplogLimit takes it
	End     string   `json:"end"`
	Entries int64    `json:"entries"`
	Replays bool     `json:"replayableByMongorestore"`
	Why     []string `json:"notReplayable,omitempty"`
}

type manifestCollection struct {
	Namespace string `json:"namespace"`
	Type      string `json:"type,omitempty"`
	UUID      string `json:"uuid,omitempty"`
	Documents int64  `json:"documents"`
	Dropped   bool   `json:"dropped,omitempty"`
}

// writeManifest writes the manifest beside the dump, last of all.
func (d *Dump) writeManifest(path string) error {
	m := manifest{Format: 1, Tool: d.opts.Config.Name + " " + d.opts.Config.Version, Server: d.server.VersionString, Set: d.server.SetName,
		Started: d.started.UTC(), Finished: time.Now().UTC(), Compression: map[method]string{methodGzip: "gzip", methodZstd: "zstd", methodSnappy: "snappy"}[d.method],
		Documents: d.result.Documents - d.result.Entries, Bytes: d.result.Bytes, Notes: d.result.Notes}
	if d.opts.Output.Oplog {
		s, e := d.result.OplogStart, d.result.OplogEnd
		m.Oplog = &manifestOplog{Start: fmt.Sprintf("%d:%d", s.T, s.I), End: fmt.Sprintf("%d:%d", e.T, e.I), Entries: d.result.Entries,
			Replays: len(d.result.NotReplayable) == 0, Why: d.result.NotReplayable}
	}
	for _, i := range d.man.all() {
		if i.db == "" {
			continue
		}
		m.Collections = append(m.Collections, manifestCollection{Namespace: i.namespace(), Type: i.kind, UUID: i.uuidHex(), Documents: i.docs, Dropped: i.dropped})
	}
	base := filepath.Dir(path)
	for _, f := range d.files.info {
		if rel, err := filepath.Rel(base, f.Path); err == nil {
			f.Path = filepath.ToSlash(rel)
		}
		m.Files = append(m.Files, f)
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	w, err := tool.CreateWhole(path)
	if err != nil {
		return fmt.Errorf("error creating the manifest: %w", err)
	}
	if _, err := w.Write(append(text, '\n')); err != nil {
		_ = w.Abort()
		return fmt.Errorf("error writing the manifest: %w", err)
	}
	return w.Commit()
}
