package repo

import (
	"context"
	"errors"
	"fmt"
)

// marks is the set of chunks that manifests refer to, a bit for each chunk of an index.
type marks struct {
	r     *Repo
	x     *chunkIndex
	bits  []uint64
	live  []int64      // raw bytes of live chunks, by pack
	lists map[ID]uint8 // lists that were walked: bit n is depth n
	seen  map[string]bool
}

func (r *Repo) newMarks(x *chunkIndex) *marks {
	return &marks{r: r, x: x, bits: make([]uint64, (x.chunks+63)/64), live: make([]int64, len(x.packs)), lists: map[ID]uint8{}, seen: map[string]bool{}}
}

// mark sets the bit of a chunk and says whether it was new.
func (m *marks) mark(id ID, size uint64) (bool, error) {
	m.r.mu.RLock()
	defer m.r.mu.RUnlock()
	p, ok := m.x.lookup(id)
	if !ok {
		return false, &CorruptError{"chunk", id.String(), notIndexed}
	}
	n := m.x.number(p)
	for uint32(len(m.bits)) <= n/64 { // a writer in this process added packs
		m.bits = append(m.bits, 0)
	}
	for len(m.live) < len(m.x.packs) {
		m.live = append(m.live, 0)
	}
	if m.bits[n/64]&(1<<(n%64)) != 0 {
		return false, nil
	}
	m.bits[n/64] |= 1 << (n % 64)
	m.live[m.x.blocks[p.block].pack] += int64(size)
	return true, nil
}

// at says whether a chunk's copy at this place of a pack is the one that is in use.
func (m *marks) at(id ID, pack ID, block, pos int) bool {
	m.r.mu.RLock()
	defer m.r.mu.RUnlock()
	no, ok := m.x.packNo[pack]
	p, known := m.x.lookup(id)
	if !ok || !known || p != (place{m.x.packs[no].firstBlock + uint32(block), uint8(pos)}) {
		return false
	}
	n := m.x.number(p)
	return n/64 < uint32(len(m.bits)) && m.bits[n/64]&(1<<(n%64)) != 0
}

// pack returns how many bytes of a pack's chunks are in use, of how many, and whether an index
// lists the pack at all.
func (m *marks) pack(id ID) (live, raw int64, listed bool) {
	m.r.mu.RLock()
	defer m.r.mu.RUnlock()
	no, ok := m.x.packNo[id]
	if !ok {
		return 0, 0, false
	}
	if int(no) < len(m.live) {
		live = m.live[no]
	}
	return live, m.x.packs[no].raw, true
}

// stream marks all chunks of a stream. Lists that other streams share are walked once. broken is
// called for what cannot be found or read; nil from it goes on with the rest.
func (m *marks) stream(ctx context.Context, ref StreamRef, broken func(error) error) error {
	if ref.Root == (ID{}) {
		return nil
	}
	return m.item(ctx, listItem{ref.Root, uint64(ref.Size)}, ref.Depth, broken)
}

func (m *marks) item(ctx context.Context, it listItem, depth int, broken func(error) error) error {
	if depth == 0 {
		if _, err := m.mark(it.id, it.size); err != nil {
			return broken(err)
		}
		return nil
	}
	if m.lists[it.id]&(1<<depth) != 0 {
		return nil
	}
	items, err := m.r.readListFrom(ctx, m.x, it)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return broken(err)
	}
	m.lists[it.id] |= 1 << depth
	if _, err := m.mark(it.id, uint64(len(items)*listEntry)); err != nil {
		return broken(err)
	}
	for _, c := range items {
		if err := m.item(ctx, c, depth-1, broken); err != nil {
			return err
		}
	}
	return nil
}

// manifests marks what all manifests refer to that were not seen before. A manifest or a chunk
// that cannot be read ends it: who does not know what is in use deletes nothing.
func (m *marks) manifests(ctx context.Context) error {
	names, err := m.r.manifestNames(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if m.seen[name] {
			continue
		}
		man, err := m.r.readManifest(ctx, name)
		if isNotFound(err) {
			continue // deleted meanwhile
		}
		if err != nil {
			return fmt.Errorf("%w; delete that backup, or nothing can be swept", err)
		}
		for _, ref := range man.Streams {
			err := m.stream(ctx, ref, func(err error) error { return err })
			var c *CorruptError
			if errors.As(err, &c) {
				return fmt.Errorf("backup %s, stream %q: %w; `cairn backup verify` tells all that is damaged", man.ID, ref.Name, err)
			}
			if err != nil {
				return err
			}
		}
		m.seen[name] = true
	}
	return nil
}
