package repo

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
)

const (
	segmentBytes = 4 << 20   // of a stream, fetched by one task
	rangeGap     = 128 << 10 // bytes that are read for nothing sooner than asking twice
	rangeMax     = 8 << 20
)

// Open reads a stream from its beginning. Every chunk is checked by its id, and the whole, unless
// it is a log, by its SHA-256; damage is a *CorruptError, and no byte that was not checked is delivered. Segments are
// fetched ahead, as many as the repository has workers.
func (r *Repo) Open(ctx context.Context, ref StreamRef) (io.ReadCloser, error) {
	return r.OpenAt(ctx, ref, 0)
}

// OpenAt is Open from an offset; what lies before it is not read.
func (r *Repo) OpenAt(ctx context.Context, ref StreamRef, offset int64) (io.ReadCloser, error) {
	if offset < 0 || offset > ref.Size {
		return nil, fmt.Errorf("stream %q: offset %d of %d", ref.Name, offset, ref.Size)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &streamReader{r: r, ref: ref, ctx: ctx, cancel: cancel, left: ref.Size - offset}
	if offset == 0 && !ref.Log { // a log is known by its pieces
		s.sum = sha256.New()
	}
	if ref.Root == (ID{}) {
		if int64(len(ref.Inline)) != ref.Size {
			cancel()
			return nil, s.damaged("it has %d bytes in its manifest, not %d", len(ref.Inline), ref.Size)
		}
		s.cur = ref.Inline[offset:]
		s.queue = make(chan chan segment)
		close(s.queue)
		return s, nil
	}
	if _, err := r.currentIndex(ctx); err != nil {
		cancel()
		return nil, err
	}
	s.queue = make(chan chan segment, r.opts.Workers)
	s.run.Go(func() { s.walk(offset) })
	return s, nil
}

// currentIndex is the index in memory, loaded if there is none yet.
func (r *Repo) currentIndex(ctx context.Context) (*chunkIndex, error) {
	r.mu.RLock()
	x := r.index
	r.mu.RUnlock()
	if x != nil {
		return x, nil
	}
	return r.loadIndex(ctx)
}

type segment struct {
	data []byte
	err  error
}

// streamReader delivers segments in order while later ones are fetched.
type streamReader struct {
	r      *Repo
	ref    StreamRef
	ctx    context.Context
	cancel context.CancelFunc
	queue  chan chan segment
	run    sync.WaitGroup
	cur    []byte
	left   int64
	sum    hash.Hash // nil of a log, and if not read from the beginning
	err    error
}

func (s *streamReader) damaged(format string, args ...any) error {
	return &CorruptError{Kind: "stream", Object: s.ref.Name, Why: fmt.Sprintf(format, args...)}
}

// Read implements io.Reader.
func (s *streamReader) Read(p []byte) (int, error) {
	for len(s.cur) == 0 && s.err == nil {
		s.err = s.next()
	}
	if s.err != nil {
		return 0, s.err
	}
	n := copy(p, s.cur)
	s.cur = s.cur[n:]
	if s.left -= int64(n); s.left < 0 {
		s.err = s.damaged("it is longer than %d bytes", s.ref.Size)
		return 0, s.err
	}
	if s.sum != nil {
		s.sum.Write(p[:n])
	}
	return n, nil
}

func (s *streamReader) next() error {
	c, ok := <-s.queue
	if !ok {
		return s.end()
	}
	seg := <-c
	s.cur = seg.data
	return seg.err
}

func (s *streamReader) end() error {
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	if s.left != 0 {
		return s.damaged("it ends %d bytes too early", s.left)
	}
	if s.sum != nil && ID(s.sum.Sum(nil)) != s.ref.SHA256 {
		return s.damaged("its SHA-256 does not match its bytes")
	}
	return io.EOF
}

// Close ends the fetching.
func (s *streamReader) Close() error {
	s.cancel()
	s.run.Wait()
	s.cur, s.err = nil, errors.New("the stream's reader is closed")
	return nil
}

// walk goes through the tree and starts a task for each segment.
func (s *streamReader) walk(offset int64) {
	defer close(s.queue)
	var items []listItem
	var bytes, skip uint64 = 0, uint64(offset)
	flush := func() error {
		c := make(chan segment, 1)
		select {
		case s.queue <- c:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		batch, drop := items, skip
		items, bytes, skip = nil, 0, 0
		s.run.Go(func() {
			data, err := s.r.fetch(s.ctx, batch)
			if err == nil {
				data = data[min(drop, uint64(len(data))):]
			}
			c <- segment{data, err}
		})
		return nil
	}
	err := s.r.walkTree(s.ctx, listItem{s.ref.Root, uint64(s.ref.Size)}, s.ref.Depth, func(it listItem, depth int) (bool, error) {
		if len(items) == 0 && it.size <= skip { // all of it lies before the offset
			skip -= it.size
			return false, nil
		}
		if depth > 0 {
			return true, nil
		}
		items = append(items, it)
		if bytes += it.size; bytes < segmentBytes+skip {
			return false, nil
		}
		return false, flush()
	})
	if err == nil && len(items) > 0 {
		err = flush()
	}
	if err != nil && s.ctx.Err() == nil {
		c := make(chan segment, 1)
		c <- segment{err: err}
		select {
		case s.queue <- c:
		case <-s.ctx.Done():
		}
	}
}

// walkTree visits a tree in order; visit says whether to go below a list.
func (r *Repo) walkTree(ctx context.Context, it listItem, depth int, visit func(listItem, int) (bool, error)) error {
	below, err := visit(it, depth)
	if err != nil || !below || depth == 0 {
		return err
	}
	items, err := r.readList(ctx, it)
	if err != nil {
		return err
	}
	for _, c := range items {
		if err := r.walkTree(ctx, c, depth-1, visit); err != nil {
			return err
		}
	}
	return nil
}

// readList reads one list of chunks and checks that it covers what it should.
func (r *Repo) readList(ctx context.Context, it listItem) ([]listItem, error) {
	chunks, err := r.fetchChunks(ctx, []listItem{it})
	if err != nil {
		return nil, err
	}
	return checkList(it, chunks[0])
}

// readListFrom is readList by a certain index.
func (r *Repo) readListFrom(ctx context.Context, x *chunkIndex, it listItem) ([]listItem, error) {
	chunks, err := r.fetchFrom(ctx, x, []listItem{it})
	if err != nil {
		return nil, notThere(err)
	}
	return checkList(it, chunks[0])
}

func checkList(it listItem, data []byte) ([]listItem, error) {
	items, err := decodeList(data)
	var sum uint64
	for _, c := range items {
		sum += c.size
	}
	if err == nil && sum != it.size {
		err = fmt.Errorf("a list of chunks covers %d bytes, not %d", sum, it.size)
	}
	if err != nil {
		return nil, &CorruptError{"chunk", it.id.String(), err.Error()}
	}
	return items, nil
}

// notThere makes damage of a pack that is missing.
func notThere(err error) error {
	var s *StoreError
	if isNotFound(err) && errors.As(err, &s) {
		return &CorruptError{kindPack.String(), s.Object, "it is not there"}
	}
	return err
}

// fetch reads chunks of data and joins them.
func (r *Repo) fetch(ctx context.Context, items []listItem) ([]byte, error) {
	chunks, err := r.fetchChunks(ctx, items)
	if err != nil {
		return nil, err
	}
	n := 0
	for i, c := range chunks {
		if uint64(len(c)) != items[i].size {
			return nil, &CorruptError{"chunk", items[i].id.String(), fmt.Sprintf("it has %d bytes, its list says %d", len(c), items[i].size)}
		}
		n += len(c)
	}
	out := make([]byte, 0, n)
	for _, c := range chunks {
		out = append(out, c...)
	}
	return out, nil
}

// fetchChunks reads chunks and checks each by its id. If the index is older than a sweep, it is
// read again, once.
func (r *Repo) fetchChunks(ctx context.Context, items []listItem) ([][]byte, error) {
	x, err := r.currentIndex(ctx)
	if err != nil {
		return nil, err
	}
	chunks, err := r.fetchFrom(ctx, x, items)
	var c *CorruptError
	if isNotFound(err) || (errors.As(err, &c) && c.Why == notIndexed) {
		if x, err = r.loadIndex(ctx); err != nil {
			return nil, err
		}
		chunks, err = r.fetchFrom(ctx, x, items)
	}
	return chunks, notThere(err)
}

const notIndexed = "it is in no index"

// wanted is one block that must be read, with the items that need it.
type wanted struct {
	key   blockKey
	info  blockInfo
	pack  packInfo
	plain *plainBlock
}

func (r *Repo) fetchFrom(ctx context.Context, x *chunkIndex, items []listItem) ([][]byte, error) {
	places := make([]place, len(items))
	need := map[uint32]*wanted{}
	r.mu.RLock()
	for i := range items {
		p, ok := x.lookup(items[i].id)
		if !ok {
			r.mu.RUnlock()
			return nil, &CorruptError{"chunk", items[i].id.String(), notIndexed}
		}
		places[i] = p
		if need[p.block] == nil {
			pk := x.pack(p)
			need[p.block] = &wanted{info: x.blocks[p.block], pack: *pk, key: blockKey{pk.id, p.block - pk.firstBlock}}
		}
	}
	r.mu.RUnlock()
	var missing []*wanted
	for _, w := range need {
		if w.plain = r.blocks.get(w.key); w.plain == nil {
			missing = append(missing, w)
		}
	}
	if err := r.fetchBlocks(ctx, missing); err != nil {
		return nil, err
	}
	out := make([][]byte, len(items))
	for i, p := range places {
		w := need[p.block]
		if int(p.pos) >= len(w.plain.chunks) {
			return nil, corrupt(kindPack, packName(w.pack.id), "block %d has %d chunks, its index says more", w.key.block, len(w.plain.chunks))
		}
		out[i] = w.plain.chunks[p.pos]
		if !w.plain.matches(r.keys, int(p.pos), items[i].id) {
			return nil, &CorruptError{"chunk", items[i].id.String(), "its bytes in " + packName(w.pack.id) + " do not match its id"}
		}
	}
	return out, nil
}

// fetchBlocks reads blocks, those that lie near each other in one request.
func (r *Repo) fetchBlocks(ctx context.Context, blocks []*wanted) error {
	slices.SortFunc(blocks, func(a, b *wanted) int {
		if c := slices.Compare(a.pack.id[:], b.pack.id[:]); c != 0 {
			return c
		}
		return int(a.info.off) - int(b.info.off)
	})
	for i := 0; i < len(blocks); {
		start, end := blocks[i].info.off, blocks[i].info.off+blocks[i].info.stored
		j := i + 1
		for ; j < len(blocks) && blocks[j].pack.id == blocks[i].pack.id; j++ {
			b := blocks[j].info
			if b.off > end+rangeGap || b.off+b.stored-start > rangeMax {
				break
			}
			end = b.off + b.stored
		}
		if err := r.fetchRange(ctx, blocks[i:j], start, end); err != nil {
			return err
		}
		i = j
	}
	return nil
}

func (r *Repo) fetchRange(ctx context.Context, blocks []*wanted, start, end uint32) error {
	p := blocks[0].pack
	name := packName(p.id)
	data, err := r.store.getRange(ctx, name, int64(start), int64(end-start))
	if err != nil {
		return err
	}
	if len(data) != int(end-start) {
		return corrupt(kindPack, name, "it is cut short: %d bytes at %d instead of %d", len(data), start, end-start)
	}
	pr, err := r.keys.packReader(p.salt[:])
	if err != nil {
		return err
	}
	for _, b := range blocks {
		off := b.info.off - start
		plain, err := pr.part(uint64(b.key.block), data[off:off+b.info.stored])
		if err == nil {
			b.plain, err = r.decode(plain)
		}
		if err != nil {
			return corrupt(kindPack, name, "block %d at %d: %v", b.key.block, b.info.off, err)
		}
		r.blocks.put(b.key, b.plain)
	}
	return nil
}

type blockKey struct {
	pack  ID
	block uint32
}

// blockCache keeps decoded blocks, the least recently used go first.
type blockCache struct {
	mu    sync.Mutex
	limit int
	size  int
	order *list.List // of *cachedBlock
	items map[blockKey]*list.Element
}

type cachedBlock struct {
	key   blockKey
	plain *plainBlock
	size  int
}

func newBlockCache(limit int) *blockCache {
	return &blockCache{limit: limit, order: list.New(), items: map[blockKey]*list.Element{}}
}

func (c *blockCache) get(k blockKey) *plainBlock {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[k]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedBlock).plain
}

func (c *blockCache) put(k blockKey, plain *plainBlock) {
	b := &cachedBlock{key: k, plain: plain}
	for _, ch := range plain.chunks {
		b.size += len(ch)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[k]; ok {
		return
	}
	c.items[k] = c.order.PushFront(b)
	c.size += b.size
	for c.size > c.limit && c.order.Len() > 1 {
		e := c.order.Back()
		old := c.order.Remove(e).(*cachedBlock)
		delete(c.items, old.key)
		c.size -= old.size
	}
}
