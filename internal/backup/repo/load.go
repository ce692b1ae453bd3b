package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// indexName is where an index object lies.
func indexName(data []byte) string { return kindIndex.prefix() + digestName(data) }

// loadIndex brings the index up to date with the store and returns it. What others added is
// added; what a sweep changed makes a new index, while who holds the old one keeps it. Packs that
// are condemned or not there are marked, so that a writer stores their chunks again.
func (r *Repo) loadIndex(ctx context.Context) (*chunkIndex, error) {
	r.loading.Lock()
	defer r.loading.Unlock()
	for range 10 {
		x, err := r.loadOnce(ctx)
		if !isNotFound(err) {
			return x, err
		}
		// A sweep replaced an index object between the listing and the read.
	}
	return nil, errors.New("the repository's index changes all the time: is more than one prune running?")
}

func (r *Repo) loadOnce(ctx context.Context) (*chunkIndex, error) {
	condemned, trash, err := r.readTrash(ctx)
	if err != nil {
		return nil, err
	}
	objects, err := r.store.list(ctx, kindIndex.prefix())
	if err != nil {
		return nil, err
	}
	listed := map[string]bool{}
	var fresh []string
	for _, o := range objects {
		listed[o.name] = true
		if !r.indexObjects[o.name] {
			fresh = append(fresh, o.name)
		}
	}
	r.mu.RLock()
	x := r.index
	r.mu.RUnlock()
	known := r.indexObjects
	for name := range known {
		if !listed[name] {
			x = nil
		}
	}
	if x == nil || !maps.Equal(trash, r.trash) {
		x, known = newChunkIndex(), map[string]bool{}
		fresh = slices.Collect(maps.Keys(listed))
		slices.Sort(fresh)
	}
	if err := r.addObjects(ctx, x, known, fresh, condemned); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.index = x
	r.mu.Unlock()
	r.indexObjects, r.trash = known, trash
	return x, r.store.dropCached(kindIndex.prefix(), func(name string) bool { return listed[name] })
}

// addObjects reads index objects, some at a time, and adds them in order.
func (r *Repo) addObjects(ctx context.Context, x *chunkIndex, known map[string]bool, names []string, condemned map[ID]bool) error {
	if len(names) == 0 {
		return nil
	}
	present, err := r.listPacks(ctx)
	if err != nil {
		return err
	}
	return inOrder(ctx, 4, names, func(ctx context.Context, name string) ([]packEntry, error) {
		return r.readIndexObject(ctx, name)
	}, func(name string, packs []packEntry) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range packs {
			_, there := present[p.id]
			x.add(p, condemned[p.id] || !there)
		}
		known[name] = true
		return nil
	})
}

func (r *Repo) listPacks(ctx context.Context) (map[ID]objectInfo, error) {
	objects, err := r.store.list(ctx, kindPack.prefix())
	if err != nil {
		return nil, err
	}
	packs := make(map[ID]objectInfo, len(objects))
	for _, o := range objects {
		if id, ok := packOfName(o.name); ok {
			packs[id] = o
		}
	}
	return packs, nil
}

func (r *Repo) readIndexObject(ctx context.Context, name string) (packs []packEntry, err error) {
	_, err = r.store.getCached(ctx, name, func(data []byte) error {
		payload, err := r.keys.open(kindIndex, name, data)
		if err != nil {
			return err
		}
		if packs, err = decodeIndex(payload); err != nil {
			return corrupt(kindIndex, name, "%v", err)
		}
		return nil
	})
	return packs, err
}

// writeIndex stores what is in the packs and makes it known here.
func (r *Repo) writeIndex(ctx context.Context, packs []packEntry) (name string, size int, err error) {
	data, err := r.keys.seal(kindIndex, "", encodeIndex(packs))
	if err != nil {
		return "", 0, err
	}
	name = indexName(data)
	if err := r.store.put(ctx, name, data); err != nil {
		return "", 0, fmt.Errorf("writing an index: %w", err)
	}
	return name, len(data), nil
}

// publish adds packs whose index object is stored to the indexes in memory.
func (r *Repo) publish(name string, packs []packEntry, also *chunkIndex) {
	r.loading.Lock()
	defer r.loading.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range packs {
		if r.index != nil {
			r.index.add(p, false)
		}
		if also != nil && also != r.index {
			also.add(p, false)
		}
	}
	if r.index != nil {
		r.indexObjects[name] = true
	}
}

// inOrder runs get for every item, n at a time, and hands the results to use in the items' order. None
// is still running when it returns, at the first error either: the caller may close what they use.
func inOrder[T, V any](ctx context.Context, n int, items []T, get func(context.Context, T) (V, error), use func(T, V) error) error {
	type result struct {
		v   V
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	queue := make(chan chan result, n)
	defer func() {
		cancel()
		for c := range queue {
			<-c
		}
	}()
	go func() {
		defer close(queue)
		for _, it := range items {
			c := make(chan result, 1)
			select {
			case queue <- c:
			case <-ctx.Done():
				return
			}
			go func() {
				v, err := get(ctx, it)
				c <- result{v, err}
			}()
		}
	}()
	i := 0
	for c := range queue {
		res := <-c
		if res.err != nil {
			return res.err
		}
		if err := use(items[i], res.v); err != nil {
			return err
		}
		i++
	}
	if i < len(items) {
		return context.Cause(ctx)
	}
	return nil
}
