package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Position is a place in the source's log of changes: seconds, increment within the second, term.
type Position struct {
	T    uint32 `json:"t"`
	I    uint32 `json:"i"`
	Term int64  `json:"term"`
}

// Compare orders positions by time and increment; the term does not order.
func (p Position) Compare(q Position) int {
	switch {
	case p.T < q.T || (p.T == q.T && p.I < q.I):
		return -1
	case p.T == q.T && p.I == q.I:
		return 0
	}
	return 1
}

func (p Position) String() string { return fmt.Sprintf("%d:%d", p.T, p.I) }

// Manifest describes one backup: it is there only if all that it refers to is. Its fields but ID,
// Created and Repository are the caller's.
type Manifest struct {
	ID         string    `json:"id"` // time of its signing off and a random part; sorts by time
	Repository string    `json:"repository"`
	Created    time.Time `json:"created"`
	Kind       string    `json:"kind"` // full, slice, …

	Source  string   `json:"source,omitempty"` // names the server or set that it came from
	Start   Position `json:"start"`
	End     Position `json:"end"`
	Parents []string `json:"parents,omitempty"` // manifests without which this one cannot be restored

	Streams []StreamRef      `json:"streams,omitempty"`
	Counts  map[string]int64 `json:"counts,omitempty"`
	Sizes   map[string]int64 `json:"sizes,omitempty"`

	ServerVersion string            `json:"serverVersion,omitempty"`
	Tool          string            `json:"tool,omitempty"`
	Options       map[string]string `json:"options,omitempty"`
	Details       json.RawMessage   `json:"details,omitempty"` // whatever else the caller keeps

	Written WriteStats `json:"written"` // what storing it cost
}

// StreamRef is all that is needed to read a stream again.
type StreamRef struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 ID     `json:"sha256,omitzero"` // of the stream's bytes; not of a log's
	// Log tells that the stream was written by Writer.Log.
	Log    bool  `json:"log,omitempty"`
	Chunks int64 `json:"chunks,omitempty"`
	// Root is the chunk at the top of the stream's tree, Depth the number of levels of lists above
	// its data: with depth 0 the root is the only chunk.
	Root  ID  `json:"root,omitzero"`
	Depth int `json:"depth,omitempty"`
	// Inline is the whole content of a stream too small to be worth an object of its own.
	Inline []byte `json:"inline,omitempty"`
}

// WriteStats counts what a writer did. Bytes are raw, Stored is what went to the store.
type WriteStats struct {
	Bytes     int64 `json:"bytes"`     // read from all streams
	NewBytes  int64 `json:"newBytes"`  // in chunks that the repository did not have, lists of chunks included
	Chunks    int64 `json:"chunks"`    // cut
	NewChunks int64 `json:"newChunks"` // not there before
	Packs     int64 `json:"packs"`
	Stored    int64 `json:"stored"` // bytes of packs and indexes; the manifest itself comes on top
}

// validName is what an id of a manifest or record may consist of: it is a part of an object's name.
func validName(s string) bool {
	if s == "" || len(s) > 100 || s[0] == '.' {
		return false
	}
	return strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
	}) < 0
}

func manifestName(id string) string { return kindManifest.prefix() + id }

func manifestOfName(name string) string { return strings.TrimPrefix(name, kindManifest.prefix()) }

// readManifest reads and checks one; the cache serves it if it can.
func (r *Repo) readManifest(ctx context.Context, name string) (*Manifest, error) {
	var m *Manifest
	_, err := r.store.getCached(ctx, name, func(data []byte) (err error) {
		m, err = r.decodeManifest(name, data)
		return err
	})
	return m, err
}

func (r *Repo) decodeManifest(name string, data []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := r.openJSON(kindManifest, name, data, m); err != nil {
		return nil, err
	}
	switch {
	case manifestName(m.ID) != name:
		return nil, corrupt(kindManifest, name, "it says that it is %s", m.ID)
	case m.Repository != r.marker.ID:
		return nil, corrupt(kindManifest, name, "it is of repository %s", m.Repository)
	}
	for _, s := range m.Streams {
		if s.Depth < 0 || s.Depth > maxDepth || s.Size < 0 {
			return nil, corrupt(kindManifest, name, "stream %q: depth %d, size %d", s.Name, s.Depth, s.Size)
		}
	}
	return m, nil
}

// Manifest reads one manifest.
func (r *Repo) Manifest(ctx context.Context, id string) (*Manifest, error) {
	if !validName(id) {
		return nil, fmt.Errorf("there is no backup %q", id)
	}
	m, err := r.readManifest(ctx, manifestName(id))
	if isNotFound(err) {
		return nil, fmt.Errorf("there is no backup %s: %w", id, err)
	}
	return m, err
}

// Manifests reads all, oldest first. Those that are damaged are left out and make the error, so
// that a caller may go on with the others: it is a joined error of *CorruptError.
func (r *Repo) Manifests(ctx context.Context) ([]*Manifest, error) {
	names, err := r.manifestNames(ctx)
	if err != nil {
		return nil, err
	}
	listed := map[string]bool{}
	for _, n := range names {
		listed[n] = true
	}
	type result struct {
		m   *Manifest
		err error
	}
	var out []*Manifest
	var damaged []error
	err = inOrder(ctx, 8, names, func(ctx context.Context, name string) (result, error) {
		m, err := r.readManifest(ctx, name)
		var c *CorruptError
		if isNotFound(err) || errors.As(err, &c) {
			return result{nil, err}, nil
		}
		return result{m, err}, err
	}, func(_ string, res result) error {
		switch {
		case res.m != nil:
			out = append(out, res.m)
		case !isNotFound(res.err): // else it was deleted meanwhile
			damaged = append(damaged, res.err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, errors.Join(append(damaged, r.store.dropCached(kindManifest.prefix(), func(n string) bool { return listed[n] }))...)
}

func (r *Repo) manifestNames(ctx context.Context) ([]string, error) {
	objects, err := r.store.list(ctx, kindManifest.prefix())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, o := range objects {
		if validName(manifestOfName(o.name)) {
			names = append(names, o.name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Delete removes manifests, in the order given: what depends on others comes first, so that an
// interruption leaves no backup without its parents. Their data goes with the next Sweep. It
// needs a Sweeping or Exclusive lock.
func (r *Repo) Delete(ctx context.Context, lk *Lock, ids ...string) error {
	if err := lk.mayDelete(ctx); err != nil {
		return err
	}
	ctx, done := lk.within(ctx)
	defer done()
	for _, id := range ids {
		if !validName(id) {
			return fmt.Errorf("there is no backup %q", id)
		}
		if err := lk.hold(ctx); err != nil {
			return err
		}
		if err := r.store.remove(ctx, manifestName(id)); err != nil {
			return err
		}
	}
	return nil
}

func (lk *Lock) mayDelete(ctx context.Context) error {
	if lk == nil || lk.info.Kind == Shared {
		return errors.New("deleting needs a sweeping lock")
	}
	return lk.Check(ctx)
}
