package dump

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/cairndb/cairn/internal/backup/tool"
)

// stateName is the file that says how far a resumable dump is: a line of JSON for its
// options, then one for each collection that is whole.
const stateName = ".cairn-resume" + tool.PartialSuffix

// stateVersion is the version of that file; docs/FORMATS.md has its fields.
const stateVersion = 1

// state is the progress of a resumable dump. A nil state keeps nothing.
type state struct {
	d  *Dump
	f  *os.File
	mu sync.Mutex

	have map[string]*record
}

// record is one line.
type record struct {
	Version int      `json:"version,omitempty"` // the first line only
	Options string   `json:"options,omitempty"` // the first line only
	DB      string   `json:"db,omitempty"`
	Coll    string   `json:"collection,omitempty"`
	Kind    string   `json:"type,omitempty"`
	UUID    string   `json:"uuid,omitempty"`
	Docs    int64    `json:"documents"`
	Dropped bool     `json:"dropped,omitempty"`
	Files   []sealed `json:"files,omitempty"`
}

// sealed is a file that is whole under its temporary name.
type sealed struct {
	stored
	Temp string `json:"temp"`
}

// fingerprint are the options that two runs must have in common.
func (d *Dump) fingerprint() string {
	o := d.opts
	ex := append(append([]string(nil), o.Output.Excluded...), o.Output.ExcludedPrefixes...)
	sort.Strings(ex)
	return fmt.Sprintf("%q %q %q %q oplog=%v users=%v views=%v method=%d manifest=%v exclude=%q set=%q", o.Namespace.DB, o.Namespace.Collection,
		o.Input.Query, o.Input.QueryFile, o.Output.Oplog, o.Output.UsersAndRoles, o.Output.ViewsAsCollections, d.method, o.Beyond.Manifest, ex, d.server.SetName)
}

// openState reads what an interrupted run left, or begins anew.
func openState(d *Dump) (*state, error) {
	root := d.opts.root()
	if err := os.MkdirAll(root, 0o777); err != nil {
		return nil, err
	}
	path := filepath.Join(root, stateName)
	s := &state{d: d, have: map[string]*record{}}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	s.f = f
	var at int64
	first := true
	sc := bufio.NewReader(f)
	for {
		line, err := sc.ReadBytes('\n')
		if err != nil {
			break // the end, or a line that was not finished
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, errors.Join(fmt.Errorf("%s is damaged: remove the directory and start the dump again: %w", path, err), f.Close())
		}
		if first && r.Version != stateVersion {
			return nil, errors.Join(fmt.Errorf("%s is of version %d, this program knows %d: remove the directory and start the dump again", path, r.Version, stateVersion), f.Close())
		}
		if first && r.Options != d.fingerprint() {
			return nil, errors.Join(fmt.Errorf("the dump in %s was started with other options or from another replica set: repeat it with the same ones, or remove the directory and start again", root), f.Close())
		}
		if !first {
			s.have[r.DB+"."+r.Coll] = &r
		}
		first = false
		at += int64(len(line))
	}
	if err := f.Truncate(at); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(at, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if first {
		return s, s.line(record{Version: stateVersion, Options: d.fingerprint()})
	}
	d.log.Always("going on with the dump in %#q: %d %s whole already", root, len(s.have), tool.Plural(int64(len(s.have)), "collection is", "collections are"))
	s.sweep(root)
	return s, nil
}

// sweep removes the temporary files that no record speaks of: they are not whole.
func (s *state) sweep(root string) {
	keep := map[string]bool{}
	for _, r := range s.have {
		for _, f := range r.Files {
			keep[f.Temp] = true
		}
	}
	for _, pattern := range []string{filepath.Join(root, ".cairn-*"), filepath.Join(root, "*", ".cairn-*")} {
		names, _ := filepath.Glob(pattern)
		for _, n := range names {
			base := filepath.Base(n)
			if !keep[n] && strings.HasSuffix(base, tool.PartialSuffix) && base != stateName && base != ".cairn-oplog"+tool.PartialSuffix {
				_ = os.Remove(n)
			}
		}
	}
}

func (s *state) line(r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := s.f.Write(append(b, '\n')); err != nil {
		return err
	}
	return s.f.Sync()
}

// usable returns the record of an intent whose files are all there.
func (s *state) usable(i *intent) *record {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.have[i.db+"."+i.coll]
	if r == nil || r.UUID != i.uuidHex() || r.Dropped {
		return nil
	}
	for _, f := range r.Files {
		if fi, err := os.Stat(f.Temp); err != nil || fi.Size() != f.Size {
			return nil
		}
	}
	return r
}

// fresh says that nothing was copied yet.
func (s *state) fresh() bool { return s == nil || len(s.have) == 0 }

// has says that an intent is whole already.
func (s *state) has(i *intent) bool { return s.usable(i) != nil }

// take marks an intent as done if it is whole already.
func (s *state) take(i *intent) bool {
	r := s.usable(i)
	if r == nil {
		return false
	}
	for _, f := range r.Files {
		s.d.files.add(tool.Sealed(f.Temp, f.Path), f.stored)
	}
	i.docs, i.done = r.Docs, true
	return true
}

// done records an intent that is whole.
func (s *state) done(i *intent) error {
	if s == nil || !i.done {
		return nil
	}
	r := record{DB: i.db, Coll: i.coll, Kind: i.kind, UUID: i.uuidHex(), Docs: i.docs, Dropped: i.dropped}
	for _, p := range []string{i.location, s.d.metaPath(i)} {
		if f, ok := s.d.files.find(p); ok {
			r.Files = append(r.Files, f)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have[i.db+"."+i.coll] = &r
	return s.line(r)
}

func (f *files) find(path string) (sealed, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.info {
		if s.Path == path {
			return sealed{stored: s, Temp: s.temp}, true
		}
	}
	return sealed{}, false
}

func (s *state) close() {
	if s != nil && s.f != nil {
		_ = s.f.Close()
	}
}

// remove ends the state of a dump that is whole.
func (s *state) remove() error {
	if s == nil {
		return nil
	}
	s.close()
	root := s.d.opts.root()
	if err := os.Remove(filepath.Join(root, ".cairn-oplog"+tool.PartialSuffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Remove(filepath.Join(root, stateName))
}

// kept adds the collections that were copied by the interrupted run and are not on the
// server any more: with an oplog they are needed, as its entries speak of them.
func (s *state) kept() []*intent {
	if s == nil || !s.d.opts.Output.Oplog {
		return nil
	}
	var l []*intent
	for _, r := range s.have {
		if s.d.man.byName[r.DB+"."+r.Coll] != nil || r.Dropped || r.DB == "admin" && strings.HasPrefix(r.Coll, "system.") {
			continue
		}
		id, err := hex.DecodeString(r.UUID)
		if err != nil {
			continue
		}
		i := &intent{db: r.DB, coll: r.Coll, kind: r.Kind, uuid: id, hasData: true, buckets: r.Kind == "timeseries" && !s.d.server.RawData()}
		i.location = s.d.path(i.db, i.dataColl()) + ".bson" + s.d.method.suffix()
		l = append(l, i)
	}
	return l
}
