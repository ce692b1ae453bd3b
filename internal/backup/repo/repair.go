package repo

import (
	"context"
	"errors"
)

// RepairStats says what RebuildIndex did.
type RepairStats struct {
	RemovedIndexes []string // index objects that could not be read
	RemovedTrash   []string // lists of condemned packs that could not be read
	Adopted        int      // packs that no index listed and are listed now
	Unreadable     []string // packs whose directory cannot be read: what they hold is lost
}

// RebuildIndex makes the index whole again from the packs, each of which says what it holds:
// index objects and trash objects that cannot be read are removed, and packs that no index lists
// are listed. It needs an Exclusive lock.
func (r *Repo) RebuildIndex(ctx context.Context, lk *Lock) (st RepairStats, err error) {
	if lk == nil || lk.info.Kind != Exclusive {
		return st, errors.New("rebuilding the index needs an exclusive lock")
	}
	if err := lk.Check(ctx); err != nil {
		return st, err
	}
	ctx, done := lk.within(ctx)
	defer done()
	listed := map[ID]bool{}
	if st.RemovedIndexes, err = r.dropDamaged(ctx, kindIndex, func(name string) error {
		packs, err := r.readIndexObject(ctx, name)
		for _, p := range packs {
			listed[p.id] = true
		}
		return err
	}); err != nil {
		return st, err
	}
	if st.RemovedTrash, err = r.dropDamaged(ctx, kindTrash, func(name string) error {
		_, err := r.readTrashList(ctx, name)
		return err
	}); err != nil {
		return st, err
	}
	present, err := r.listPacks(ctx)
	if err != nil {
		return st, err
	}
	var adopt []packEntry
	flush := func(n int) error {
		for len(adopt) >= max(n, 1) {
			k := min(len(adopt), mergedPacks)
			if _, _, err := r.writeIndex(ctx, adopt[:k]); err != nil {
				return err
			}
			adopt = adopt[k:]
		}
		return nil
	}
	for _, id := range sortedIDs(present) {
		if listed[id] {
			continue
		}
		data, err := r.store.get(ctx, packName(id))
		if err != nil {
			return st, err
		}
		e, _, err := r.keys.readPack(packName(id), data)
		var c *CorruptError
		if errors.As(err, &c) {
			st.Unreadable = append(st.Unreadable, packName(id))
			continue
		}
		if err != nil {
			return st, err
		}
		st.Adopted++
		adopt = append(adopt, e)
		if err := flush(mergedPacks); err != nil {
			return st, err
		}
	}
	if err := flush(0); err != nil {
		return st, err
	}
	_, err = r.loadIndex(ctx)
	return st, err
}

// dropDamaged removes the objects of a kind that read calls damaged.
func (r *Repo) dropDamaged(ctx context.Context, kind objectKind, read func(name string) error) (removed []string, err error) {
	objects, err := r.store.list(ctx, kind.prefix())
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		err := read(o.name)
		var c *CorruptError
		if errors.As(err, &c) {
			if err := r.store.remove(ctx, o.name); err != nil {
				return removed, err
			}
			removed = append(removed, o.name)
			continue
		}
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}
