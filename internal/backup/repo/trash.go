package repo

import (
	"context"
	"time"
)

// A trash object lists packs that a sweep has condemned. Whoever reads the index after it was
// written does not count on their chunks; they are deleted when no lock is left whose holder may
// have read it before, and no manifest refers to them after all.
type trashList struct {
	Created time.Time `json:"created"`
	Packs   []ID      `json:"packs"`
}

// readTrash returns all condemned packs and the names of the lists.
func (r *Repo) readTrash(ctx context.Context) (packs map[ID]bool, names map[string]bool, err error) {
	for range 10 {
		packs, names, err = r.readTrashOnce(ctx)
		if !isNotFound(err) {
			break
		}
	}
	return packs, names, err
}

func (r *Repo) readTrashOnce(ctx context.Context) (map[ID]bool, map[string]bool, error) {
	objects, err := r.store.list(ctx, kindTrash.prefix())
	if err != nil {
		return nil, nil, err
	}
	packs, names := map[ID]bool{}, map[string]bool{}
	for _, o := range objects {
		t, err := r.readTrashList(ctx, o.name)
		if err != nil {
			return nil, nil, err
		}
		names[o.name] = true
		for _, p := range t.Packs {
			packs[p] = true
		}
	}
	return packs, names, nil
}

func (r *Repo) readTrashList(ctx context.Context, name string) (*trashList, error) {
	data, err := r.store.get(ctx, name)
	if err != nil {
		return nil, err
	}
	t := &trashList{}
	return t, r.openJSON(kindTrash, name, data, t)
}
