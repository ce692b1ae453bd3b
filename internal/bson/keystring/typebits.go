package keystring

import "encoding/binary"

// What a type bits record tells of a value; the numbers are part of the format.
// A value without a record is in the common form: a number is an int if it is integral
// and fits, else a long if it fits, else a double; text is a string; 0x0F is undefined.
const (
	bitsInt64      = 1 // a long that would fit an int
	bitsDouble     = 2 // a double that would fit an int or long
	bitsNegZero    = 3 // the double -0
	bitsDecimal    = 4 // a decimal; exponent + 8192 as u16 BE follows
	bitsDecimalRaw = 5 // a decimal zero, NaN or infinity; its 16 bytes follow
	bitsDoubleRaw  = 6 // a double NaN with another payload; u64 BE follows
	bitsSymbol     = 7 // a symbol
	bitsMissing    = 8 // no value at all
	codeBits       = 4
)

// TypeBits collects what a key does not tell of its values, for the whole key in
// the order of its values. The zero TypeBits is ready for use. A nil *TypeBits takes and
// drops everything.
//
// A record is the varint (number of values without a record since the last one) << 4 |
// code, and the payload of the code. Only numbers, text and undefined count as values.
type TypeBits struct {
	buf []byte
	gap uint64
}

// Reset forgets everything but the buffer.
func (t *TypeBits) Reset() { t.buf, t.gap = t.buf[:0], 0 }

// Bytes returns the records; it is empty if all values are in the common form.
func (t *TypeBits) Bytes() []byte { return t.buf }

func (t *TypeBits) add(record bool, code uint64) {
	if t == nil {
		return
	}
	if !record {
		t.gap++
		return
	}
	t.buf = binary.AppendUvarint(t.buf, t.gap<<codeBits|code)
	t.gap = 0
}

func (t *TypeBits) addWord(code, w uint64) {
	if t.add(true, code); t != nil {
		t.buf = binary.BigEndian.AppendUint64(t.buf, w)
	}
}

func (t *TypeBits) addRaw(code uint64, b []byte) {
	if t.add(true, code); t != nil {
		t.buf = append(t.buf, b...)
	}
}

func (t *TypeBits) addExp(code uint64, exp int) {
	if t.add(true, code); t != nil {
		t.buf = binary.BigEndian.AppendUint16(t.buf, uint16(exp+expBias))
	}
}

// bitsReader hands the records out again, value by value.
type bitsReader struct {
	buf  []byte
	gap  uint64
	code byte
	read bool // gap and code are those of the next record
}

// next returns the code of the next value, 0 for the common form.
func (r *bitsReader) next() (byte, error) {
	if !r.read {
		if len(r.buf) == 0 {
			return 0, nil
		}
		u, n := binary.Uvarint(r.buf)
		if n <= 0 {
			return 0, errTypeBits
		}
		r.buf, r.gap, r.code, r.read = r.buf[n:], u>>codeBits, byte(u&(1<<codeBits-1)), true
	}
	if r.gap > 0 {
		r.gap--
		return 0, nil
	}
	r.read = false
	return r.code, nil
}

func (r *bitsReader) take(n int) ([]byte, error) {
	if len(r.buf) < n {
		return nil, errTypeBits
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	return b, nil
}
