package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/backup/replay"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// state is the record of a restore that can be resumed. It is written whole or not at
// all, before the first document of a collection goes in, when a collection is done, and
// every second between. What it says is done is done; what was done after it was written
// is found out by looking: a document that is there byte by byte counts as restored.
// The nil state records nothing.
type state struct {
	path string
	log  *tool.Log

	mu    sync.Mutex
	rec   record
	dirty bool
	err   error // of a write on the way, returned by the next call

	resumed bool // there was a state to go on from

	quit chan struct{}
	done chan struct{}
}

// record is the content of the state file.
type record struct {
	Version    int                  `json:"version"`
	Source     string               `json:"source"`     // what is restored, and how
	Namespaces map[string]*nsRecord `json:"namespaces"` // by the dump's names
	Written    time.Time            `json:"written"`
	// Targets are, from when the replay of the oplog began, the target's UUIDs of the
	// collections by the source's.
	Targets map[string]string `json:"targets,omitempty"`
}

type nsRecord struct {
	Documents int64 `json:"documents"` // from the first on, these were dealt with
	Inserted  int64 `json:"inserted"`
	Failed    int64 `json:"failed"`
	Done      bool  `json:"done"`
}

const (
	stateVersion = 1
	stateEvery   = time.Second
)

// openState reads the state file, if there is one to go on from, and begins to keep it.
func (r *Restore) openState() error {
	path := r.o.Own.Resume
	if path == "" {
		return nil
	}
	s := &state{path: path, log: r.log, rec: record{Version: stateVersion, Source: r.fingerprint(), Namespaces: map[string]*nsRecord{}},
		quit: make(chan struct{}), done: make(chan struct{})}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("reading the state of the restore to resume: %w", err)
	default:
		var old record
		if err := json.Unmarshal(text, &old); err != nil {
			return fmt.Errorf("%s is not the state of a restore: %w", path, err)
		}
		if old.Version != stateVersion {
			return fmt.Errorf("%s is the state of a restore in form %d, this program knows %d", path, old.Version, stateVersion)
		}
		if old.Source != s.rec.Source {
			return fmt.Errorf("%s is the state of another restore: the dump or the options differ; give the same command, or remove the file to begin anew", path)
		}
		for ns, n := range old.Namespaces {
			if n == nil || n.Documents < 0 || n.Inserted+n.Failed != n.Documents {
				return fmt.Errorf("%s is damaged: the counts of %s do not add up; remove it to begin anew", path, ns)
			}
			s.rec.Namespaces[ns] = n
		}
		s.resumed, s.rec.Targets = true, old.Targets
		r.log.Always("resuming the restore that was interrupted after %s", old.Written.Local().Format(time.DateTime))
	}
	if err := s.write(); err != nil {
		return err
	}
	r.state = s
	go s.keep()
	return nil
}

// awaitEarlier waits until the target has ended what the restore that is resumed had asked for.
func (r *Restore) awaitEarlier(ctx context.Context) error {
	if r.state == nil || !r.state.resumed {
		return nil
	}
	return replay.AwaitEarlier(ctx, r.client, 10*time.Minute, r.log.Always)
}

// fingerprint tells one restore from another: the dump's files with their sizes, and all
// that decides what goes where.
func (r *Restore) fingerprint() string {
	h := fnv.New128a()
	put := func(args ...any) {
		for _, a := range args {
			_, _ = fmt.Fprintf(h, "%v\x00", a)
		}
	}
	o := r.o
	if r.archive != nil {
		p := r.archive.Prelude()
		put("archive", p.ServerVersion, p.ToolVersion)
		for _, c := range p.Collections {
			put(c.DB, c.Collection, c.Metadata, c.Type)
		}
	}
	for _, t := range r.plan.tasks {
		put(t.src, t.namespace(), t.size, filepath.Base(t.path))
	}
	put(o.Namespace.DB, o.Namespace.Collection, o.NS, o.Output.Drop, o.Output.NoOptionsRestore, o.Output.PreserveUUID, o.Input.OplogReplay, o.Input.OplogLimit)
	hosts := slices.Clone(o.ConnString.Hosts)
	slices.Sort(hosts)
	put(hosts)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// keep writes the state every second, if it changed.
func (s *state) keep() {
	defer close(s.done)
	t := time.NewTicker(stateEvery)
	defer t.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-t.C:
		}
		s.mu.Lock()
		if s.dirty && s.err == nil {
			s.err = s.writeLocked()
		}
		s.mu.Unlock()
	}
}

func (s *state) write() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked()
}

func (s *state) writeLocked() error {
	s.rec.Written = time.Now()
	text, err := json.MarshalIndent(&s.rec, "", " ")
	if err != nil {
		return err
	}
	w, err := tool.CreateWhole(s.path)
	if err != nil {
		return fmt.Errorf("writing the state of the restore: %w", err)
	}
	if _, err := w.Write(append(text, '\n')); err != nil {
		return errors.Join(fmt.Errorf("writing the state of the restore: %w", err), w.Abort())
	}
	if err := w.Commit(); err != nil {
		return fmt.Errorf("writing the state of the restore: %w", err)
	}
	s.dirty = false
	return nil
}

// close writes the last state, or removes it when there is nothing left to resume.
func (s *state) close(success bool) error {
	close(s.quit)
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if success || len(s.rec.Namespaces) == 0 { // nothing is left to resume, or nothing was begun
		if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the state of the restore could not be removed: %w", err)
		}
		return nil
	}
	err := s.err
	if err == nil {
		err = s.writeLocked()
	}
	if err == nil {
		s.log.Always("the same command goes on from here: what was restored is recorded in %s", s.path)
	}
	return err
}

func (s *state) of(t *task) nsRecord {
	if s == nil {
		return nsRecord{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.rec.Namespaces[t.src]; n != nil {
		return *n
	}
	return nsRecord{}
}

// finished says that nothing of t is left to do.
func (s *state) finished(t *task) bool { return s.of(t).Done }

// begun says that t's collection was made and may hold documents.
func (s *state) begun(t *task) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Namespaces[t.src] != nil
}

// skip is how many documents of t were dealt with before.
func (s *state) skip(t *task) int64 { return s.of(t).Documents }

// result is what became of them.
func (s *state) result(t *task) Result {
	n := s.of(t)
	return Result{n.Documents, n.Inserted, n.Failed}
}

// begin records that t's collection is there, before the first document goes in.
func (s *state) begin(t *task) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.rec.Namespaces[t.src] != nil {
		return nil
	}
	s.rec.Namespaces[t.src] = &nsRecord{}
	return s.writeLocked()
}

// wrote records documents behind those that were recorded before.
func (s *state) wrote(t *task, d Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.rec.Namespaces[t.src]; n != nil {
		n.Documents += d.Read
		n.Inserted += d.Successes
		n.Failed += d.Failures
		s.dirty = true
	}
}

// forget lets t begin anew.
func (s *state) forget(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rec.Namespaces, t.src)
}

// end records that t is done.
func (s *state) end(t *task, res Result) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.rec.Namespaces[t.src] = &nsRecord{Documents: res.Read, Inserted: res.Successes, Failed: res.Failures, Done: true}
	return s.writeLocked()
}

// targets returns the target's UUIDs as they were when the replay of the oplog began;
// now tells them if it begins only now.
func (s *state) targets(now func() map[string]string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec.Targets == nil {
		s.rec.Targets = now()
		if err := s.writeLocked(); err != nil {
			return nil, err
		}
	}
	return s.rec.Targets, nil
}
