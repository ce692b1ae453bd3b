package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// WriteSet is an ordered list of changes that is applied as a whole or not at
// all. Underneath it is a Pebble batch, so applying it copies nothing twice.
// Reading through it builds a sorted index on the first read; a write set that
// is never read through never pays for one. One goroutine at a time.
type WriteSet struct {
	b *pebble.Batch
	// dels counts the range deletions, which the cursors need to know of
	// before they parse.
	dels int
	// fresh has a bit for each operation on a key that did not exist: the row cache has
	// nothing of it. Missing bits are 0.
	fresh []uint64
	few   [1]uint64 // room for the first bits of it
	// keep says that the row cache is to keep the rows that are put (see RecoveryUnit.KeepRows),
	// kept has a bit for each such operation.
	keep bool
	kept []uint64
	idx  *wsIndex
	gen  uint64 // raised when the index changes: cursors find their place again
}

// NewWriteSet returns an empty one. Release it when done.
func (e *Engine) NewWriteSet() *WriteSet { return e.newWriteSet(4 << 10) }

// newWriteSet returns one with room for about size bytes.
func (e *Engine) newWriteSet(size int) *WriteSet {
	w := new(WriteSet)
	w.init(e, size)
	return w
}

func (w *WriteSet) init(e *Engine, size int) {
	w.b = e.db.NewBatch(pebble.WithInitialSizeBytes(size), pebble.WithMaxRetainedSizeBytes(1<<20))
	w.fresh = w.few[:0]
}

// Release gives the memory back. The write set must not be used afterwards.
func (w *WriteSet) Release() {
	if w.b != nil {
		_ = w.b.Close() // a batch that is not indexed has nothing that can fail
		w.b = nil
		w.idx = nil
	}
}

// Set stores value at key.
func (w *WriteSet) Set(key, value []byte) {
	op := w.b.SetDeferred(len(key), len(value))
	copy(op.Key, key)
	copy(op.Value, value)
	finish(op)
}

// Delete removes key.
func (w *WriteSet) Delete(key []byte) {
	op := w.b.DeleteDeferred(len(key))
	copy(op.Key, key)
	finish(op)
}

// DeleteRange removes the keys of [lower, upper). It costs the same however
// many there are, but slows reading over the range until it is compacted away:
// for tables that go, not for single keys.
func (w *WriteSet) DeleteRange(lower, upper []byte) {
	op := w.b.DeleteRangeDeferred(len(lower), len(upper))
	copy(op.Key, lower)
	copy(op.Value, upper)
	finish(op)
	w.dels++
}

// setRecord is Set with the key built in place.
func (w *WriteSet) setRecord(t Table, id RecordID, value []byte) {
	op := w.b.SetDeferred(prefixLen+recordIDLen, len(value))
	t.AppendRecordKey(op.Key[:0], id)
	copy(op.Value, value)
	finish(op)
}

func (w *WriteSet) deleteRecord(t Table, id RecordID) {
	op := w.b.DeleteDeferred(prefixLen + recordIDLen)
	t.AppendRecordKey(op.Key[:0], id)
	finish(op)
}

// noteFresh says that the key of the last operation did not exist.
func (w *WriteSet) noteFresh() { w.fresh = setBit(w.fresh, int(w.b.Count())-1) }

// isFresh reports whether noteFresh was said of operation n.
func (w *WriteSet) isFresh(n int) bool { return hasBit(w.fresh, n) }

// noteRow says that the last operation put a row: what point reads ask for.
func (w *WriteSet) noteRow() {
	if w.keep {
		w.kept = setBit(w.kept, int(w.b.Count())-1)
	}
}

func (w *WriteSet) isKept(n int) bool { return hasBit(w.kept, n) }

func setBit(set []uint64, n int) []uint64 {
	for n>>6 >= len(set) {
		set = append(set, 0)
	}
	set[n>>6] |= 1 << (n & 63)
	return set
}

func hasBit(set []uint64, n int) bool { return n>>6 < len(set) && set[n>>6]>>(n&63)&1 != 0 }

// cutBits forgets the bits from n on.
func cutBits(set []uint64, n int) []uint64 {
	if n>>6 < len(set) {
		set = set[:n>>6+1]
		set[n>>6] &= 1<<(n&63) - 1
	}
	return set
}

// finish ends a deferred operation. It can fail only in an indexed batch.
func finish(op *pebble.DeferredBatchOp) {
	if err := op.Finish(); err != nil {
		panic(fmt.Sprintf("storage: batch operation: %v", err))
	}
}

// Len is the number of changes.
func (w *WriteSet) Len() int { return int(w.b.Count()) }

// Empty reports whether there are none.
func (w *WriteSet) Empty() bool { return w.b.Count() == 0 }

// Size is the number of bytes that the changes take.
func (w *WriteSet) Size() int { return w.b.Len() }

// Append adds the changes of o behind those of w.
func (w *WriteSet) Append(o *WriteSet) error {
	w.dels += o.dels
	return w.b.Apply(o.b, nil)
}

// Reset forgets all changes.
func (w *WriteSet) Reset() {
	w.b.Reset()
	w.dels = 0
	w.fresh, w.kept = w.fresh[:0], w.kept[:0]
	w.dropIndex()
}

func (w *WriteSet) dropIndex() {
	w.idx = nil
	w.gen++
}

// truncate cuts the write set back to its first n operations, which end at
// byte size. The index is built anew when next needed.
func (w *WriteSet) truncate(size, n, dels int) error {
	if n == 0 {
		w.Reset()
		return nil
	}
	// A copy: cursors may still hold keys of the part that goes.
	repr := bytes.Clone(w.b.Repr()[:size])
	batchrepr.SetCount(repr, uint32(n))
	w.dels = dels
	w.fresh, w.kept = cutBits(w.fresh, n), cutBits(w.kept, n)
	w.dropIndex()
	return w.b.SetRepr(repr)
}

// each calls fn for every operation from byte offset off on, in order, and
// returns the offset behind the last one.
func (w *WriteSet) each(off int, fn func(op wsOp) error) (int, error) {
	if w.b.Empty() {
		return 0, nil
	}
	repr := w.b.Repr()
	if off == 0 {
		off = batchrepr.HeaderLen
	}
	r := batchrepr.Reader(repr[off:])
	for {
		kind, key, value, ok, err := r.Next()
		if err != nil {
			return off, corruptf("write set: %v", err)
		}
		if !ok {
			return len(repr), nil
		}
		op := wsOp{key: key, value: value}
		switch kind {
		case pebble.InternalKeyKindSet:
			op.kind = opSet
		case pebble.InternalKeyKindDelete:
			op.kind = opDelete
		case pebble.InternalKeyKindRangeDelete:
			op.kind = opDeleteRange
		default:
			return off, corruptf("write set: operation of kind %d", kind)
		}
		if err := fn(op); err != nil {
			return off, err
		}
	}
}

type opKind uint8

// The numbers are those of the local unit's payload on disk.
const (
	opSet         opKind = 1
	opDelete      opKind = 2
	opDeleteRange opKind = 3
)

// wsOp is one operation; for opDeleteRange the value is the upper end.
type wsOp struct {
	kind       opKind
	key, value []byte
}

const localVersion = 1

// AppendLocal appends the payload of a journal record of kind local: version
// u8, then for each operation kind u8 | key length uvarint | key | (set and
// delete range:) value length uvarint | value. A write set that touches
// anything but private tables and this package's own keys is refused.
func (w *WriteSet) AppendLocal(dst []byte) ([]byte, error) {
	dst = append(dst, localVersion)
	_, err := w.each(0, func(op wsOp) error {
		if err := checkLocal(op); err != nil {
			return err
		}
		dst = append(dst, byte(op.kind))
		dst = binary.AppendUvarint(dst, uint64(len(op.key)))
		dst = append(dst, op.key...)
		if op.kind != opDelete {
			dst = binary.AppendUvarint(dst, uint64(len(op.value)))
			dst = append(dst, op.value...)
		}
		return nil
	})
	return dst, err
}

// applyLocal adds the operations of a local payload to the write set.
func (w *WriteSet) applyLocal(p []byte) error {
	if len(p) == 0 || p[0] != localVersion {
		return fmt.Errorf("%w: unknown version of a local unit", ErrVersion)
	}
	for p = p[1:]; len(p) > 0; {
		op := wsOp{kind: opKind(p[0])}
		var ok bool
		if op.key, p, ok = cutBytes(p[1:]); !ok {
			return corruptf("local unit: key cut off")
		}
		if op.kind != opDelete {
			if op.value, p, ok = cutBytes(p); !ok {
				return corruptf("local unit: value cut off")
			}
		}
		if err := checkLocal(op); err != nil {
			return corruptf("%v", err)
		}
		switch op.kind {
		case opSet:
			w.Set(op.key, op.value)
		case opDelete:
			w.Delete(op.key)
		case opDeleteRange:
			w.DeleteRange(op.key, op.value)
		}
	}
	return nil
}

func cutBytes(p []byte) (b, rest []byte, ok bool) {
	n, k := binary.Uvarint(p)
	if k <= 0 || uint64(len(p)-k) < n {
		return nil, nil, false
	}
	return p[k : k+int(n)], p[k+int(n):], true
}

// checkLocal reports whether a local unit may contain op.
func checkLocal(op wsOp) error {
	if op.kind < opSet || op.kind > opDeleteRange {
		return fmt.Errorf("storage: local unit: operation of kind %d", op.kind)
	}
	private := len(op.key) > prefixLen-1 && Space(op.key[0]) == SpacePrivate
	dropped := bytes.HasPrefix(op.key, []byte{byte(spaceMeta), metaDropped, byte(SpacePrivate)})
	if !private && !dropped {
		return fmt.Errorf("storage: local unit: key %x is not of the private tables", op.key)
	}
	if op.kind == opDeleteRange && bytes.Compare(op.value, []byte{byte(SpacePrivate) + 1}) > 0 {
		return fmt.Errorf("storage: local unit: range ends at %x, outside the private tables", op.value)
	}
	return nil
}
