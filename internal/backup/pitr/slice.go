package pitr

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/source"
	"github.com/cairndb/cairn/internal/bson"
)

// pendingNoops bounds the no-ops that are held back because nothing else has come yet.
const pendingNoops = 1 << 20

// slicer collects entries into one slice. The first entry is the one that the chain ends
// with. As long as only no-ops follow it, no data is written: the slice is then an extension.
type slicer struct {
	env    *Env
	org    *origin
	lk     *repo.Lock
	parent string

	w           *repo.Writer
	s           *repo.Stream
	pending     []byte // no-ops that are not written yet, the first entry included
	start, last entry.OpTime
	entries     int64 // behind the first
	bytes       int64
	written     written
	lastRaw     []byte
	// joint is the hash of the entry that the chain ends with; "" if it is not known.
	joint string
}

// add takes the next entries.
func (s *slicer) add(ctx context.Context, items []source.Item) error {
	for i := range items {
		if err := s.one(ctx, items[i].Raw, items[i].Head); err != nil {
			return err
		}
	}
	if n := len(items); n > 0 {
		s.lastRaw = append(s.lastRaw[:0], items[n-1].Raw...)
	}
	return nil
}

// one takes an entry.
func (s *slicer) one(ctx context.Context, raw bson.Raw, h entry.Head) error {
	var e entry.Entry
	if h.Kind == entry.Unknown {
		var err error
		if e, err = entry.Parse(raw); err != nil {
			return err // an *entry.UnknownError has the kind's name: such an entry cannot be restored
		}
		h.OpTime = e.OpTime
	}
	if s.start.IsNull() {
		if s.joint != "" && s.joint != entryHash(raw) {
			return &source.RollbackError{Entry: h.OpTime, Found: h.OpTime, Bytes: true}
		}
		s.start = h.OpTime
	} else {
		s.entries++
		s.bytes += int64(len(raw))
		if h.Kind != entry.Unknown {
			s.written.plain(&h)
		} else if err := s.written.add(&e); err != nil {
			return err
		}
	}
	s.last = h.OpTime
	if s.s == nil {
		first := s.entries == 0
		if (first || h.Kind == entry.Noop || e.Kind == entry.Noop) && len(s.pending)+len(raw) <= pendingNoops {
			s.pending = append(s.pending, raw...)
			return nil
		}
		if err := s.open(ctx); err != nil {
			return err
		}
	}
	_, err := s.s.Write(raw)
	return err
}

func (s *slicer) open(ctx context.Context) (err error) {
	if s.w, err = s.env.Repo.NewWriter(ctx, s.lk); err != nil {
		return err
	}
	s.s = s.w.Log(streamOplog)
	_, err = s.s.Write(s.pending)
	s.pending = nil
	return err
}

// entryHash tells two entries of one place and term apart: those of different servers.
func entryHash(raw bson.Raw) string {
	h := sha256.Sum256(raw)
	return hex.EncodeToString(h[:16])
}

// empty reports whether nothing came after the first entry.
func (s *slicer) empty() bool { return s.entries == 0 }

// idle reports whether nothing but no-ops came.
func (s *slicer) idle() bool { return s.s == nil }

// commit signs the slice off and returns its manifest.
func (s *slicer) commit(ctx context.Context) (*repo.Manifest, error) {
	m := &repo.Manifest{Kind: string(chain.Slice), Source: s.org.name, ServerVersion: s.org.version, Tool: s.env.Tool,
		Start: toPosition(s.start), End: toPosition(s.last), Parents: []string{s.parent},
		Counts: map[string]int64{countEntries: s.entries}, Sizes: map[string]int64{sizeOplog: s.bytes}, Options: map[string]string{optionEnd: entryHash(s.lastRaw)}}
	if s.idle() {
		m.Kind = string(chain.Extension)
		m.Sizes[sizeOplog] = 0
		w, err := s.env.Repo.NewWriter(ctx, s.lk)
		if err != nil {
			return nil, err
		}
		s.w = w
	} else {
		ref, err := s.s.Finish()
		if err != nil {
			return nil, fmt.Errorf("storing the oplog slice: %w", err)
		}
		m.Streams = []repo.StreamRef{ref}
		if m.Details, err = s.written.details(); err != nil {
			return nil, err
		}
	}
	if err := s.w.Commit(ctx, m); err != nil {
		return nil, fmt.Errorf("signing off the oplog slice: %w", err)
	}
	s.w = nil
	return m, nil
}

// abort gives up what was not signed off.
func (s *slicer) abort() error {
	if s.w == nil {
		return nil
	}
	w := s.w
	s.w, s.s = nil, nil
	return w.Abort()
}

// errReached ends a tail that came to where it should.
var errReached = errors.New("reached")
