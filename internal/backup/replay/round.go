package replay

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"math"
	"sync"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// maxBatchBytes keeps a command, with what round.most adds, below what a message and its document may be.
const maxBatchBytes = 12 << 20

// maxBatchOps bounds the operations of one command; their results come back one by one.
const maxBatchOps = 10_000

// buckets is in how many parts the documents of a round fall. Documents of one bucket are
// written by one worker; a transaction joins the buckets of its documents.
const buckets = 1 << 12

// op is one document write in a round's buffer.
type op struct {
	off, n int
	doc    uint64 // the same for all writes of a document
	bucket uint16
	kind   entry.Kind
	txn    int32 // number of its transaction in the round, 0: none
	coll   *collection
	at     entry.OpTime
}

// round is what is applied at the same time.
type round struct {
	workers, batchBytes int

	buf    []byte // the operations as documents, one behind the other
	ops    []op
	b      bson.Builder
	parent []uint16 // union of buckets; nil while there are no transactions
	joined int32    // transactions so far
	join   int      // bucket that the transaction being added began with, -1: none
	inTxn  bool

	upTo    entry.OpTime
	mu      sync.Mutex
	applied int64
	skipped map[string]int64
	unique  map[string]bool
}

func newRound(o *Options) *round {
	return &round{workers: o.Workers, batchBytes: o.BatchBytes, join: -1, skipped: map[string]int64{}, unique: map[string]bool{}}
}

func (r *round) empty() bool { return len(r.ops) == 0 }

// full reports whether it is time to send the round off: each worker has about a command.
func (r *round) full() bool {
	return len(r.buf) >= r.workers*r.batchBytes || len(r.ops) >= r.workers*maxBatchOps*7/8
}

// most is what a command may have. Workers do not get the same; what is a little more than a
// command should not make two.
func (r *round) most() int { return r.batchBytes + r.batchBytes/8 }

func (r *round) beginJoin() { r.inTxn, r.join = true, -1; r.joined++ }
func (r *round) endJoin()   { r.inTxn, r.join = false, -1 }

// add encodes a write as the target takes it.
func (r *round) add(e *entry.Entry, c *collection, t *target) {
	if c.capped && e.Kind == entry.Insert && e.RID == 0 && t.cairn {
		// The order of a capped collection is that of the inserts, and decides what it
		// forgets. A server that gives no record ids would put the document at the end, also
		// where a newer copy of it is in the middle.
		del := *e
		del.Kind, del.O = entry.Delete, bson.NewBuilder(nil).Append("_id", e.ID()).Finish()
		r.add(&del, c, t)
	}
	o := op{off: len(r.buf), kind: e.Kind, coll: c, at: e.OpTime, doc: hashDoc(c, e.ID())}
	o.bucket = uint16(o.doc % buckets)
	b := &r.b
	b.Reset(r.buf)
	b.Str("op", e.Kind.String())
	b.Str("ns", c.ns)
	if c.sendUUID {
		b.UUID("ui", c.uuid)
	}
	b.AppendDoc("o", e.O)
	if e.Kind == entry.Update {
		b.AppendDoc("o2", e.O2)
	}
	if e.RID > 0 && t.cairn {
		b.Int64("rid", e.RID)
	}
	if e.FromMigrate {
		b.Bool("fromMigrate", true)
	}
	b.End()
	r.buf = b.Buffer()
	o.n = len(r.buf) - o.off
	if r.inTxn {
		o.txn = r.joined
		if r.join < 0 {
			r.join = int(o.bucket)
		}
		r.union(uint16(r.join), o.bucket)
	}
	r.ops = append(r.ops, o)
}

func (r *round) union(a, b uint16) {
	if a == b {
		return
	}
	if r.parent == nil {
		r.parent = make([]uint16, buckets)
		for i := range r.parent {
			r.parent[i] = uint16(i)
		}
	}
	r.parent[r.root(a)] = r.root(b)
}

func (r *round) root(x uint16) uint16 {
	if r.parent == nil {
		return x
	}
	for r.parent[x] != x {
		r.parent[x] = r.parent[r.parent[x]]
		x = r.parent[x]
	}
	return x
}

// lanes deals the operations out: all of one root bucket to one worker, in order.
func (r *round) lanes() [][]int {
	size := make([]int, buckets)
	for i := range r.ops {
		size[r.root(r.ops[i].bucket)] += r.ops[i].n
	}
	// Buckets are many and small, or one is all: the least loaded worker takes the next.
	lane := make([]uint8, buckets)
	load := make([]int, r.workers)
	for bkt, n := range size {
		if n == 0 {
			continue
		}
		least := 0
		for w := range load {
			if load[w] < load[least] {
				least = w
			}
		}
		load[least] += n
		lane[bkt] = uint8(least)
	}
	out := make([][]int, r.workers)
	for w := range out {
		out[w] = make([]int, 0, len(r.ops)/r.workers+16)
	}
	for i := range r.ops {
		w := lane[r.root(r.ops[i].bucket)]
		out[w] = append(out[w], i)
	}
	return out
}

// apply applies the round and returns the first failure.
func (r *round) apply(ctx context.Context, t *target) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	var late []int
	for _, lane := range r.lanes() {
		if len(lane) == 0 {
			continue
		}
		wg.Go(func() {
			again, err := r.lane(ctx, t, lane)
			mu.Lock()
			defer mu.Unlock()
			late = append(late, again...)
			if err != nil && first == nil {
				first = err
				cancel(err)
			}
		})
	}
	wg.Wait()
	if first == nil && len(late) > 0 {
		first = r.retry(ctx, t, late)
	}
	return first
}

// lane sends one worker's operations, in order, and returns those that met a unique key
// on a target that does not let it pass, with all of their documents' that follow.
func (r *round) lane(ctx context.Context, t *target, ops []int) (late []int, err error) {
	blocked := map[uint64]bool{}
	for len(ops) > 0 {
		n := r.cut(ops)
		again, err := t.send(ctx, r, ops[:n], blocked)
		if err != nil {
			return nil, err
		}
		late = append(late, again...)
		ops = ops[n:]
	}
	return late, nil
}

// cut is how many operations go into one command; a transaction is not cut unless it is
// larger than a command may be.
func (r *round) cut(ops []int) int {
	size, n := 0, 0
	for n < len(ops) && n < maxBatchOps {
		size += r.ops[ops[n]].n + 8
		if n > 0 && size > r.most() {
			break
		}
		n++
	}
	end := n
	for end > 0 && end < len(ops) && r.ops[ops[end]].txn != 0 && r.ops[ops[end]].txn == r.ops[ops[end-1]].txn {
		end--
	}
	if end == 0 { // one transaction from the first operation on
		size = 0
		for end < len(ops) && r.ops[ops[end]].txn == r.ops[ops[0]].txn {
			if size += r.ops[ops[end]].n + 8; size > maxBatchBytes && end > 0 {
				break
			}
			end++
		}
	}
	return end
}

// document is an operation's bytes.
func (r *round) document(i int) bson.Raw { return bson.Raw(r.buf[r.ops[i].off:][:r.ops[i].n]) }

// failure names operation i.
func (r *round) failure(i int, err error) error {
	o := &r.ops[i]
	return &Error{o.at, o.coll.ns, o.kind.String(), err}
}

func (r *round) note(applied int64, skipped map[string]int64, unique string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied += applied
	for why, n := range skipped {
		r.skipped[why] += n
	}
	if unique != "" {
		r.unique[unique] = true
	}
}

var seed = maphash.MakeSeed()

// hashDoc is the same for writes that may be of one document.
func hashDoc(c *collection, id bson.Value) uint64 {
	if c.oneBucket {
		return c.number
	}
	var h maphash.Hash
	h.SetSeed(seed)
	hashValue(&h, id)
	return h.Sum64() + c.number*0x9E3779B97F4A7C15
}

// hashValue hashes v so that values which compare equal hash equal: 1, 1.0 and
// NumberLong(1) are one _id.
func hashValue(h *maphash.Hash, v bson.Value) {
	switch v.Type {
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		var b [8]byte
		if n, ok := v.AsInt64(); ok {
			binary.LittleEndian.PutUint64(b[:], uint64(n))
		} else {
			// A decimal may equal a double that is not integral, and rounds differently: by
			// their integral part they fall together.
			f, _ := v.AsFloat64()
			binary.LittleEndian.PutUint64(b[:], math.Float64bits(math.Trunc(f)))
		}
		_ = h.WriteByte('n')
		_, _ = h.Write(b[:])
	case bson.TypeDocument, bson.TypeArray:
		for k, e := range v.Doc().Elems() {
			if v.Type == bson.TypeDocument {
				_, _ = h.WriteString(k)
			}
			_ = h.WriteByte(0)
			hashValue(h, e)
		}
	default: // a string and a symbol are equal, and have the same bytes
		_, _ = h.Write(v.Data)
	}
}
