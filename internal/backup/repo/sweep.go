package repo

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// SweepOptions say how a sweep goes about.
type SweepOptions struct {
	DryRun bool
	// Without are manifests that a dry run takes for deleted.
	Without []string
	// Repack is the part of a pack, by bytes of its chunks, that must be unused for the rest to be
	// written into new packs; 0 is a third. 1 never repacks.
	Repack float64
	// Wait is how long to wait for writers and readers that began before the sweep condemned what
	// it wants to delete. What they still may need stays condemned, and the next sweep deletes it.
	Wait time.Duration
}

// SweepStats counts what a sweep did, or in a dry run would do. Sizes are of objects in the store.
type SweepStats struct {
	Packs          int64 `json:"packs"` // there before
	PackBytes      int64 `json:"packBytes"`
	Unused         int64 `json:"unused"` // packs without a chunk in use
	UnusedBytes    int64 `json:"unusedBytes"`
	Repacked       int64 `json:"repacked"` // packs whose rest is written anew
	RepackedBytes  int64 `json:"repackedBytes"`
	RewrittenBytes int64 `json:"rewrittenBytes"` // chunks, uncompressed, that are written anew
	// RewrittenStored is what they take in the store; of a dry run as much of each pack as is in use.
	RewrittenStored int64      `json:"rewrittenStoredBytes"`
	Young           int64      `json:"young"`   // packs left alone: they may belong to a backup that is running
	Deleted         int64      `json:"deleted"` // packs deleted now (in a dry run: that would be, if nobody is in the way)
	DeletedBytes    int64      `json:"deletedBytes"`
	Condemned       int64      `json:"condemned"`     // packs left for the next sweep, as somebody may still read them
	IndexesBefore   int64      `json:"indexesBefore"` // index objects
	Indexes         int64      `json:"indexes"`
	Rescued         int64      `json:"rescued"`              // packs that were condemned and are in use again
	WaitingFor      []LockInfo `json:"waitingFor,omitempty"` // whose holders are why packs stay condemned
	TemporaryFiles  int64      `json:"temporaryFiles"`       // left-overs of interrupted uploads, removed
	Unlisted        int64      `json:"unlisted"`             // packs that no index lists
}

// smallIndex is the size below which index objects are merged, when there are mergeFrom of them.
const (
	smallIndex  = 1 << 20
	mergeFrom   = 16
	mergedPacks = 64 // in one index object
)

// Sweep deletes what no manifest refers to, and rewrites packs of which little is in use. It
// needs a Sweeping lock and goes on beside writers and readers:
//
//  1. Mark: what all manifests refer to. A pack that is not in use and that no running writer
//     can have made, because it is older than the oldest live lock, is condemned: a trash object
//     that lists it is written. Whoever reads the index from now on does not count on it.
//  2. When no lock is left that is older than a trash object, the manifests that were signed off
//     since the mark are marked too. Condemned packs that are in use after all are rescued.
//  3. For the others: new index objects without them, the old index objects deleted, the packs
//     deleted, the trash object deleted.
//
// Interrupted anywhere it leaves a whole repository; the next sweep goes on. A manifest or a
// list that cannot be read stops it before it deletes anything.
func (r *Repo) Sweep(ctx context.Context, lk *Lock, o SweepOptions) (SweepStats, error) {
	if err := lk.mayDelete(ctx); err != nil {
		return SweepStats{}, err
	}
	ctx, done := lk.within(ctx)
	defer done()
	if o.Repack == 0 {
		o.Repack = 1.0 / 3
	}
	s := &sweep{r: r, lk: lk, o: o}
	err := s.run(ctx)
	return s.stats, err
}

type sweep struct {
	r       *Repo
	lk      *Lock
	o       SweepOptions
	stats   SweepStats
	marks   *marks
	packs   map[ID]objectInfo
	indexed map[string][]ID // index object → its packs
	trash   map[string]*trashList
	oldest  time.Time // when the oldest live lock but ours was taken
}

func (s *sweep) run(ctx context.Context) error {
	if err := s.survey(ctx); err != nil {
		return err
	}
	doomed, repack := s.choose()
	if s.o.DryRun {
		s.stats.Deleted += s.stats.Unused + s.stats.Repacked
		s.stats.DeletedBytes += s.stats.UnusedBytes + s.stats.RepackedBytes
		return nil
	}
	s.stats.Deleted, s.stats.DeletedBytes = 0, 0
	if len(repack) > 0 {
		if err := s.repack(ctx, repack); err != nil {
			return err
		}
		doomed = append(doomed, repack...)
	}
	if err := s.condemn(ctx, doomed); err != nil {
		return err
	}
	free, err := s.wait(ctx)
	if err != nil {
		return err
	}
	if err := s.remove(ctx, free); err != nil {
		return err
	}
	if err := s.mergeIndexes(ctx); err != nil {
		return err
	}
	return s.removeTemporary(ctx)
}

// survey reads everything, in an order that misses no reference: locks before manifests, for a
// writer that is gone from the locks has its manifest in place.
func (s *sweep) survey(ctx context.Context) (err error) {
	if err := s.lockAges(ctx); err != nil {
		return err
	}
	if s.trash, err = s.readTrash(ctx); err != nil {
		return err
	}
	x, err := s.r.loadIndex(ctx)
	if err != nil {
		return err
	}
	if s.packs, err = s.r.listPacks(ctx); err != nil {
		return err
	}
	if err := s.readIndexes(ctx); err != nil {
		return err
	}
	s.marks = s.r.newMarks(x)
	if s.o.DryRun {
		for _, id := range s.o.Without {
			s.marks.seen[manifestName(id)] = true
		}
	}
	if err := s.marks.manifests(ctx); err != nil {
		return err
	}
	s.stats.Packs = int64(len(s.packs))
	for _, o := range s.packs {
		s.stats.PackBytes += o.size
	}
	return nil
}

func (s *sweep) lockAges(ctx context.Context) error {
	err := s.lk.renew(ctx) // its time is the store's present
	if err != nil {
		return err
	}
	infos, err := s.others(ctx)
	if err != nil {
		return err
	}
	s.oldest = time.Time{}
	for _, l := range infos {
		if s.oldest.IsZero() || l.Created.Before(s.oldest) {
			s.oldest = l.Created
		}
	}
	return nil
}

// others lists the live locks but ours; stale ones are deleted, so that their holders find out.
func (s *sweep) others(ctx context.Context) ([]LockInfo, error) {
	for {
		created := s.lk.Info().Created
		infos, err := s.r.lockInfos(ctx, s.lk.info.ID, &created)
		if err != nil {
			return nil, err
		}
		removed := false
		for _, l := range infos {
			if l.Stale != "" && !s.o.DryRun {
				removed = true
				if err := s.r.RemoveLock(ctx, l.ID); err != nil {
					return nil, err
				}
			}
		}
		if !removed {
			return slices.DeleteFunc(infos, func(l LockInfo) bool { return l.Stale != "" }), nil
		}
	}
}

func (s *sweep) readTrash(ctx context.Context) (map[string]*trashList, error) {
	objects, err := s.r.store.list(ctx, kindTrash.prefix())
	if err != nil {
		return nil, err
	}
	all := map[string]*trashList{}
	for _, o := range objects {
		if all[o.name], err = s.r.readTrashList(ctx, o.name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (s *sweep) readIndexes(ctx context.Context) error {
	objects, err := s.r.store.list(ctx, kindIndex.prefix())
	if err != nil {
		return err
	}
	s.indexed = map[string][]ID{}
	for _, o := range objects {
		packs, err := s.r.readIndexObject(ctx, o.name)
		if err != nil {
			return err
		}
		for _, p := range packs {
			s.indexed[o.name] = append(s.indexed[o.name], p.id)
		}
	}
	s.stats.IndexesBefore = int64(len(objects))
	s.stats.Indexes = s.stats.IndexesBefore
	return nil
}

// choose finds the packs to condemn and those to repack. Packs that no index lists count as
// unused: no chunk of theirs can be in use.
func (s *sweep) choose() (doomed, repack []ID) {
	condemned := map[ID]bool{}
	for _, t := range s.trash {
		for _, p := range t.Packs {
			condemned[p] = true
		}
	}
	ids := slices.SortedFunc(maps.Keys(s.packs), func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		o := s.packs[id]
		live, raw, listed := s.marks.pack(id)
		if !listed {
			s.stats.Unlisted++
		}
		unused := live == 0
		worth := listed && !unused && float64(raw-live) > s.o.Repack*float64(raw)
		switch {
		case condemned[id]:
			if unused {
				s.stats.Deleted++ // for a dry run; remove counts anew
				s.stats.DeletedBytes += o.size
			}
		case !unused && !worth:
		case s.young(o):
			s.stats.Young++
		case unused:
			s.stats.Unused++
			s.stats.UnusedBytes += o.size
			doomed = append(doomed, id)
		default:
			s.stats.Repacked++
			s.stats.RepackedBytes += o.size
			s.stats.RewrittenBytes += live
			s.stats.RewrittenStored += int64(float64(o.size) * float64(live) / float64(raw))
			repack = append(repack, id)
		}
	}
	return doomed, repack
}

// young says that a writer that is still running may have made the pack. Stores give times in
// whole seconds, hence the two seconds.
func (s *sweep) young(o objectInfo) bool {
	return !s.oldest.IsZero() && !o.modTime.Before(s.oldest.Add(-2*time.Second))
}

// repack copies the live chunks of packs into new ones. Until the old ones are condemned both are
// there, which harms nothing.
func (s *sweep) repack(ctx context.Context, packs []ID) error {
	w, err := s.r.NewWriter(ctx, s.lk)
	if err != nil {
		return err
	}
	// Nothing counts as known: the point is to store again what the index has.
	w.base = newChunkIndex()
	out := &block{}
	for _, id := range packs {
		if out, err = s.copyLive(ctx, w, id, out); err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	if len(out.chunks) > 0 {
		if err := w.submit(out); err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	err = w.drain()
	s.stats.RewrittenStored = w.Stats().Stored
	return errors.Join(err, w.Abort())
}

func (s *sweep) copyLive(ctx context.Context, w *Writer, id ID, out *block) (*block, error) {
	name := packName(id)
	data, err := s.r.store.get(ctx, name)
	if err != nil {
		return nil, err
	}
	e, pr, err := s.r.keys.readPack(name, data)
	if err != nil {
		return nil, err
	}
	for i, b := range e.blocks {
		var read *plainBlock
		var plain []byte
		for k, c := range b.chunks {
			if !s.marks.at(c.id, id, i, k) {
				continue
			}
			if read == nil {
				plain, err = pr.part(uint64(i), data[b.off:b.off+b.stored])
				if err == nil {
					read, err = s.r.decodeListed(plain, b)
				}
				if err != nil {
					return nil, corrupt(kindPack, name, "block %d: %v", i, err)
				}
			}
			if !read.matches(s.r.keys, k, c.id) {
				return nil, &CorruptError{"chunk", c.id.String(), "its bytes in " + name + " do not match its id"}
			}
			if read.isLog { // its id is of the very bytes that are stored
				err = w.keepPiece(plain, c)
			} else {
				out, err = w.store(c.id, read.chunks[k], out)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// condemn writes a trash object.
func (s *sweep) condemn(ctx context.Context, packs []ID) error {
	if len(packs) == 0 {
		return nil
	}
	if err := s.lk.Check(ctx); err != nil {
		return err
	}
	name := kindTrash.prefix() + randomHex(16)
	t := &trashList{Created: s.r.now().UTC(), Packs: packs}
	data, err := s.r.sealJSON(kindTrash, name, t)
	if err != nil {
		return err
	}
	if err := s.r.store.put(ctx, name, data); err != nil {
		return err
	}
	s.trash[name] = t
	return nil
}

// wait returns the trash objects that no live lock is older than.
func (s *sweep) wait(ctx context.Context) (free []string, err error) {
	if len(s.trash) == 0 {
		return nil, nil
	}
	deadline := s.r.now().Add(s.o.Wait)
	for {
		infos, err := s.others(ctx)
		if err != nil {
			return nil, err
		}
		free, s.stats.WaitingFor, s.stats.Condemned = nil, nil, 0
		for _, name := range slices.Sorted(maps.Keys(s.trash)) {
			i := slices.IndexFunc(infos, func(l LockInfo) bool { return !slices.Contains(l.Seen, name) })
			if i < 0 {
				free = append(free, name)
				continue
			}
			s.stats.Condemned += int64(len(s.trash[name].Packs))
			s.stats.WaitingFor = infos
		}
		if len(free) == len(s.trash) || !s.r.now().Before(deadline) {
			return free, nil
		}
		if err := pause(ctx, s.r.poll()); err != nil {
			return nil, err
		}
	}
}

// remove deletes the packs of trash objects, but those that are in use after all.
func (s *sweep) remove(ctx context.Context, free []string) error {
	if len(free) == 0 {
		return nil
	}
	// A new view: repacked chunks count in their new place, and no chunk in a condemned one that
	// is anywhere else.
	x, err := s.r.loadIndex(ctx)
	if err != nil {
		return err
	}
	s.marks = s.r.newMarks(x)
	if err := s.marks.manifests(ctx); err != nil {
		return err
	}
	if err := s.readIndexes(ctx); err != nil {
		return err
	}
	before := s.stats.IndexesBefore
	doomed := map[ID]bool{}
	for _, name := range free {
		for _, id := range s.trash[name].Packs {
			if live, _, _ := s.marks.pack(id); live > 0 {
				s.stats.Rescued++
				continue
			}
			doomed[id] = true
		}
	}
	if err := s.lk.Check(ctx); err != nil {
		return err
	}
	if err := s.dropFromIndexes(ctx, doomed); err != nil {
		return err
	}
	s.stats.IndexesBefore = before
	for _, id := range slices.SortedFunc(maps.Keys(doomed), func(a, b ID) int { return bytes.Compare(a[:], b[:]) }) {
		if err := s.r.store.remove(ctx, packName(id)); err != nil {
			return err
		}
		if o, ok := s.packs[id]; ok {
			s.stats.Deleted++
			s.stats.DeletedBytes += o.size
		}
	}
	for _, name := range free {
		if err := s.r.store.remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// dropFromIndexes writes the index objects that list doomed packs anew, without them.
func (s *sweep) dropFromIndexes(ctx context.Context, doomed map[ID]bool) error {
	var old []string
	for name, packs := range s.indexed {
		if slices.ContainsFunc(packs, func(id ID) bool { return doomed[id] }) {
			old = append(old, name)
		}
	}
	return s.rewrite(ctx, old, doomed)
}

// rewrite replaces index objects by new ones: first the new, then the old are deleted.
func (s *sweep) rewrite(ctx context.Context, old []string, without map[ID]bool) error {
	slices.Sort(old)
	var keep []packEntry
	have := map[ID]bool{}
	isNew := map[string]bool{}
	flush := func(n int) error {
		for len(keep) >= max(n, 1) {
			k := min(len(keep), mergedPacks)
			name, _, err := s.r.writeIndex(ctx, keep[:k])
			if err != nil {
				return err
			}
			isNew[name] = true
			keep = keep[k:]
		}
		return nil
	}
	for _, name := range old {
		packs, err := s.r.readIndexObject(ctx, name)
		if err != nil {
			return err
		}
		for _, p := range packs {
			if !without[p.id] && !have[p.id] {
				have[p.id] = true
				keep = append(keep, p)
			}
		}
		if err := flush(mergedPacks); err != nil {
			return err
		}
	}
	if err := flush(0); err != nil {
		return err
	}
	if len(old) > 0 {
		if err := s.lk.Check(ctx); err != nil {
			return err
		}
	}
	for _, name := range old {
		if isNew[name] {
			continue // the same content has the same name
		}
		if err := s.r.store.remove(ctx, name); err != nil {
			return err
		}
	}
	s.stats.Indexes += int64(len(isNew) - len(old))
	return nil
}

// mergeIndexes keeps the number of index objects small: each slice leaves one.
func (s *sweep) mergeIndexes(ctx context.Context) error {
	objects, err := s.r.store.list(ctx, kindIndex.prefix())
	if err != nil {
		return err
	}
	var small []string
	for _, o := range objects {
		if o.size < smallIndex {
			small = append(small, o.name)
		}
	}
	if len(small) < mergeFrom {
		return nil
	}
	return s.rewrite(ctx, small, nil)
}

// removeTemporary deletes what a killed process left beside its objects in a directory.
func (s *sweep) removeTemporary(ctx context.Context) error {
	now := s.lk.Info()
	var old []string
	all, err := s.r.store.listAll(ctx, "")
	if err != nil {
		return err
	}
	for _, o := range all {
		if isTemporary(o.name) && o.modTime.Before(now.Created.Add(-24*time.Hour)) {
			old = append(old, o.name)
		}
	}
	for _, name := range old {
		if err := s.r.store.remove(ctx, name); err != nil {
			return err
		}
		s.stats.TemporaryFiles++
	}
	return nil
}
