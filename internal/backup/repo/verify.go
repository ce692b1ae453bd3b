package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// FindingKind names what is wrong with an object.
type FindingKind string

// The kinds of findings. Those that are notes only cost space or time.
const (
	Damaged      FindingKind = "damaged"      // the object, or a chunk in it, is not what was written
	Missing      FindingKind = "missing"      // a pack that an index lists, or a chunk that a manifest needs, is not there
	Mismatch     FindingKind = "mismatch"     // an index and the pack it describes disagree
	NewerVersion FindingKind = "newerVersion" // written by a newer version of the format

	Unlisted  FindingKind = "unlisted"  // note: a pack that no index lists (an interrupted backup's)
	Unused    FindingKind = "unused"    // note: a pack of which no manifest needs anything
	Condemned FindingKind = "condemned" // note: a pack that a sweep has condemned and not deleted yet
	Foreign   FindingKind = "foreign"   // note: an object whose name is not one of the format's
	Temporary FindingKind = "temporary" // note: the left-over of an interrupted upload
	StaleLock FindingKind = "staleLock" // note: a lock whose holder is gone
)

// Note says that the finding endangers no backup.
func (k FindingKind) Note() bool {
	switch k {
	case Unlisted, Unused, Condemned, Foreign, Temporary, StaleLock:
		return true
	}
	return false
}

// Finding is one thing that Verify found.
type Finding struct {
	Kind    FindingKind `json:"kind"`
	Type    string      `json:"type"`              // of the object: pack, index, manifest, chunk, …
	Object  string      `json:"object"`            // its name, or the chunk's id
	Detail  string      `json:"detail,omitempty"`  // what exactly
	Backups []string    `json:"backups,omitempty"` // manifests that cannot be restored whole because of it
}

func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s %s", f.Kind, f.Type, f.Object)
	if f.Detail != "" {
		s += ": " + f.Detail
	}
	if len(f.Backups) > 0 {
		s += " (needed by " + strings.Join(f.Backups, ", ") + ")"
	}
	return s
}

// VerifyOptions say how much to read.
type VerifyOptions struct {
	// Percent of the packs whose every byte is read: checksum, directory, each chunk's id. All
	// other objects, and that each pack is there and has its size, are always checked. 0 is none.
	Percent float64
	// Turn chooses which packs, so that repeated runs with 0, 1, 2, … read all of them in time.
	Turn int
	// Progress, if not nil, is called after each pack that was read.
	Progress func(VerifyStats)
}

// VerifyStats counts what was checked.
type VerifyStats struct {
	Objects     int64 `json:"objects"`
	Packs       int64 `json:"packs"`
	PacksRead   int64 `json:"packsRead"`
	PacksToRead int64 `json:"packsToRead"`
	BytesRead   int64 `json:"bytesRead"`
	Chunks      int64 `json:"chunks"`
	ChunksInUse int64 `json:"chunksInUse"`
	Manifests   int64 `json:"manifests"`
	Findings    int64 `json:"findings"`
	Notes       int64 `json:"notes"`
}

// Verify checks the repository and reports everything that is wrong, in no case stopping at the
// first: the error is only that it could not go on. Hold a Shared lock, so that no sweep deletes
// what is being looked at.
func (r *Repo) Verify(ctx context.Context, o VerifyOptions, report func(Finding)) (VerifyStats, error) {
	v := &verify{r: r, o: o, report: report, bad: map[ID]string{}, packs: map[ID]*packEntry{}, present: map[ID]objectInfo{}}
	err := v.run(ctx)
	return v.stats, err
}

type verify struct {
	r         *Repo
	o         VerifyOptions
	report    func(Finding)
	stats     VerifyStats
	condemned map[ID]bool
	packs     map[ID]*packEntry // by index objects
	present   map[ID]objectInfo
	bad       map[ID]string // packs with damage, and what
	index     *chunkIndex
	others    []string  // objects that are not packs
	findings  []Finding // of packs and chunks: reported when it is known what needs them
}

func (v *verify) add(f Finding) {
	if f.Kind.Note() {
		v.stats.Notes++
	} else {
		v.stats.Findings++
	}
	v.report(f)
}

// found turns an error into a finding; an error that is none of the repository's comes back.
func (v *verify) found(err error) error {
	var c *CorruptError
	var n *VersionError
	switch {
	case errors.As(err, &c):
		v.add(Finding{Kind: Damaged, Type: c.Kind, Object: c.Object, Detail: c.Why})
		return nil
	case errors.As(err, &n):
		v.add(Finding{Kind: NewerVersion, Type: "object", Object: n.Object, Detail: err.Error()})
		return nil
	}
	return err
}

func (v *verify) run(ctx context.Context) error {
	if err := v.list(ctx); err != nil {
		return err
	}
	if err := v.smallObjects(ctx); err != nil {
		return err
	}
	if err := v.readPacks(ctx); err != nil {
		return err
	}
	v.index = newChunkIndex()
	for _, id := range sortedIDs(v.packs) {
		// Packs that are gone stay in, so that it can be told what needed them.
		_, there := v.present[id]
		v.index.add(*v.packs[id], v.condemned[id] || v.bad[id] != "" || !there)
	}
	v.stats.Chunks = int64(v.index.entries)
	m, err := v.manifests(ctx)
	if err != nil {
		return err
	}
	return v.unused(m)
}

func sortedIDs[V any](m map[ID]V) []ID {
	ids := make([]ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// list looks at every object's name.
func (v *verify) list(ctx context.Context) error {
	all, err := v.r.store.listAll(ctx, "")
	for _, o := range all {
		v.named(o)
	}
	return err
}

// named takes an object for what its name says.
func (v *verify) named(o objectInfo) {
	v.stats.Objects++
	if id, ok := packOfName(o.name); ok {
		v.present[id] = o
		v.stats.Packs++
		return
	}
	prefix, rest, _ := strings.Cut(o.name, "/")
	ours := o.name == markerName
	switch prefix + "/" {
	case kindKey.prefix(), kindIndex.prefix(), kindManifest.prefix(), kindTrash.prefix(), kindLock.prefix():
		ours = validName(rest)
	case kindRecord.prefix():
		kind, id, _ := strings.Cut(rest, "/")
		ours = validName(kind) && validName(id)
	}
	switch {
	case isTemporary(o.name):
		v.add(Finding{Kind: Temporary, Type: "file", Object: o.name, Detail: "an upload was interrupted; a prune removes it after a day"})
	case ours:
		v.others = append(v.others, o.name)
	default:
		v.add(Finding{Kind: Foreign, Type: "object", Object: o.name})
	}
}

// smallObjects reads all objects that are not packs, never from the cache.
func (v *verify) smallObjects(ctx context.Context) error {
	v.condemned = map[ID]bool{}
	slices.Sort(v.others)
	for _, name := range v.others {
		data, err := v.r.store.get(ctx, name)
		if isNotFound(err) {
			continue // deleted since the listing
		}
		if err != nil {
			return err
		}
		v.stats.BytesRead += int64(len(data))
		if err := v.found(v.smallObject(ctx, name, data)); err != nil {
			return err
		}
	}
	return v.locks(ctx)
}

func (v *verify) smallObject(ctx context.Context, name string, data []byte) error {
	r := v.r
	prefix, _, _ := strings.Cut(name, "/")
	switch prefix + "/" {
	case kindKey.prefix():
		_, err := r.readKeyInfo(ctx, name)
		return err
	case kindIndex.prefix():
		payload, err := r.keys.open(kindIndex, name, data)
		if err != nil {
			return err
		}
		packs, err := decodeIndex(payload)
		if err != nil {
			return corrupt(kindIndex, name, "%v", err)
		}
		for i := range packs {
			v.listed(name, &packs[i])
		}
		return nil
	case kindManifest.prefix():
		_, err := r.decodeManifest(name, data)
		return err
	case kindRecord.prefix():
		_, err := r.decodeRecord(name, data)
		return err
	case kindTrash.prefix():
		t := &trashList{}
		if err := r.openJSON(kindTrash, name, data, t); err != nil {
			return err
		}
		for _, p := range t.Packs {
			v.condemned[p] = true
		}
		return nil
	case kindLock.prefix():
		return r.openJSON(kindLock, name, data, &LockInfo{})
	}
	m, err := decodeMarker(data)
	if err == nil && *m != *r.marker {
		err = &CorruptError{"marker", name, "it is not the one with which the repository was opened"}
	}
	return err
}

// listed checks that a pack of an index is there in its size.
func (v *verify) listed(index string, p *packEntry) {
	if v.packs[p.id] != nil {
		return
	}
	v.packs[p.id] = p
	o, there := v.present[p.id]
	switch {
	case v.condemned[p.id]:
	case !there:
		v.findings = append(v.findings, Finding{Kind: Missing, Type: "pack", Object: packName(p.id), Detail: "listed in " + index})
		v.bad[p.id] = "missing"
	case o.size != int64(p.size):
		v.findings = append(v.findings, Finding{Kind: Damaged, Type: "pack", Object: packName(p.id),
			Detail: fmt.Sprintf("it has %d bytes, its index says %d", o.size, p.size)})
		v.bad[p.id] = "size"
	}
}

func (v *verify) locks(ctx context.Context) error {
	infos, err := v.r.Locks(ctx)
	if err != nil {
		return err
	}
	for _, l := range infos {
		if l.Stale != "" {
			v.add(Finding{Kind: StaleLock, Type: "lock", Object: kindLock.prefix() + l.ID, Detail: l.String()})
		}
	}
	return nil
}

// chosen says whether a pack is read this time: its id is a random number, so the first bytes
// order the packs, and the turn chooses the part.
func (v *verify) chosen(id ID) bool {
	if v.o.Percent >= 100 {
		return true
	}
	if v.o.Percent <= 0 {
		return false
	}
	at := float64(uint32(id[0])<<24|uint32(id[1])<<16|uint32(id[2])<<8|uint32(id[3])) / (1 << 32)
	at -= float64(v.o.Turn) * v.o.Percent / 100
	at -= float64(int(at))
	if at < 0 {
		at++
	}
	return at < v.o.Percent/100
}

func (v *verify) readPacks(ctx context.Context) error {
	var ids []ID
	for _, id := range sortedIDs(v.present) {
		if v.packs[id] == nil && !v.condemned[id] {
			v.add(Finding{Kind: Unlisted, Type: "pack", Object: packName(id), Detail: "a prune removes it"})
		}
		if v.chosen(id) && v.bad[id] == "" {
			ids = append(ids, id)
		}
	}
	v.stats.PacksToRead = int64(len(ids))
	type result struct {
		size int
		err  error
	}
	return inOrder(ctx, 2, ids, func(ctx context.Context, id ID) (result, error) {
		data, err := v.r.store.get(ctx, packName(id))
		if err == nil {
			err = v.r.checkPack(packName(id), data, v.packs[id])
		}
		var c *CorruptError
		var n *VersionError
		if isNotFound(err) || errors.As(err, &c) || errors.As(err, &n) {
			return result{len(data), err}, nil
		}
		return result{len(data), nil}, err
	}, func(id ID, res result) error {
		v.stats.PacksRead++
		v.stats.BytesRead += int64(res.size)
		if res.err != nil && !isNotFound(res.err) {
			v.bad[id] = res.err.Error()
			f := Finding{Kind: Damaged, Type: "pack", Object: packName(id), Detail: res.err.Error()}
			var c *CorruptError
			if errors.As(res.err, &c) {
				f.Detail = c.Why
			}
			if errors.Is(res.err, errMismatch) {
				f.Kind = Mismatch
			}
			v.findings = append(v.findings, f)
		}
		if v.o.Progress != nil {
			v.o.Progress(v.stats)
		}
		return nil
	})
}

var errMismatch = errors.New("the pack's directory and its index do not agree")

// checkPack checks every byte of a pack, and that its index, if it has one, says the same.
func (r *Repo) checkPack(name string, data []byte, listed *packEntry) error {
	e, pr, err := r.keys.readPack(name, data)
	if err != nil {
		return err
	}
	for i, b := range e.blocks {
		plain, err := pr.part(uint64(i), data[b.off:b.off+b.stored])
		var read *plainBlock
		if err == nil {
			read, err = r.decodeListed(plain, b)
		}
		if err != nil {
			return corrupt(kindPack, name, "block %d: %v", i, err)
		}
		for k, c := range b.chunks {
			if !read.matches(r.keys, k, c.id) {
				return corrupt(kindPack, name, "block %d: chunk %s does not match its id", i, c.id)
			}
		}
	}
	if listed != nil && !bytes.Equal(encodeIndex([]packEntry{e}), encodeIndex([]packEntry{*listed})) {
		return fmt.Errorf("%w: %w", errMismatch, corrupt(kindPack, name, "its directory and its index do not agree"))
	}
	return nil
}

// manifests walks all streams: every chunk must be in an index, in a pack that is there and not
// known to be damaged.
func (v *verify) manifests(ctx context.Context) (*marks, error) {
	m := v.r.newMarks(v.index)
	names, err := v.r.manifestNames(ctx)
	if err != nil {
		return nil, err
	}
	needs := map[ID][]string{} // damaged pack → backups
	lost := map[string][]string{}
	for _, name := range names {
		man, err := v.r.readManifest(ctx, name)
		var c *CorruptError
		var n *VersionError
		if isNotFound(err) || errors.As(err, &c) || errors.As(err, &n) {
			continue // reported before
		}
		if err != nil {
			return nil, err
		}
		v.stats.Manifests++
		// Each backup is walked whole where there is damage, so that every one that it hits is named.
		walk := m
		if len(v.bad) > 0 {
			walk = v.r.newMarks(v.index)
		}
		for _, ref := range man.Streams {
			err := walk.stream(ctx, ref, func(err error) error {
				if !errors.As(err, &c) {
					return err
				}
				if id, ok := packOfName(c.Object); ok && v.bad[id] != "" {
					needs[id] = appendOnce(needs[id], man.ID) // the pack itself is reported
				} else {
					key := c.Kind + " " + c.Object + " " + c.Why
					lost[key] = appendOnce(lost[key], man.ID)
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		if walk != m {
			m.join(walk)
			for id := range v.bad {
				if live, _, _ := walk.pack(id); live > 0 {
					needs[id] = appendOnce(needs[id], man.ID)
				}
			}
		}
	}
	for _, f := range v.findings {
		if id, ok := packOfName(f.Object); ok {
			f.Backups = needs[id]
		}
		v.add(f)
	}
	for _, key := range sortedNames(lost) {
		typ, rest, _ := strings.Cut(key, " ")
		object, why, _ := strings.Cut(rest, " ")
		kind := Damaged
		if why == notIndexed {
			kind = Missing
		}
		v.add(Finding{Kind: kind, Type: typ, Object: object, Detail: why, Backups: lost[key]})
	}
	return m, nil
}

func sortedNames(m map[string][]string) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func appendOnce(list []string, s string) []string {
	if len(list) > 0 && list[len(list)-1] == s {
		return list
	}
	return append(list, s)
}

// unused notes the packs that a sweep would delete.
func (v *verify) unused(m *marks) error {
	for _, w := range m.bits {
		for ; w != 0; w &= w - 1 {
			v.stats.ChunksInUse++
		}
	}
	for _, id := range sortedIDs(v.packs) {
		_, there := v.present[id]
		live, _, _ := m.pack(id)
		switch {
		case !there && live > 0 && v.condemned[id]:
			v.add(Finding{Kind: Missing, Type: "pack", Object: packName(id), Detail: "condemned, but in use"})
		case v.condemned[id] && there:
			v.add(Finding{Kind: Condemned, Type: "pack", Object: packName(id)})
		case there && live == 0 && v.bad[id] == "":
			v.add(Finding{Kind: Unused, Type: "pack", Object: packName(id), Detail: "a prune removes it"})
		}
	}
	return nil
}

// join adds another set's marks.
func (m *marks) join(o *marks) {
	for i, w := range o.bits {
		m.bits[i] |= w
	}
	for i, n := range o.live {
		m.live[i] = max(m.live[i], n)
	}
}

// VerifyStream reads a whole stream and checks it, as a restore would.
func (r *Repo) VerifyStream(ctx context.Context, ref StreamRef) error {
	rd, err := r.Open(ctx, ref)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, rd)
	return errors.Join(err, rd.Close())
}
