package keystring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/cairndb/cairn/internal/bson"
)

// ErrCorrupt marks bytes that Append did not write.
var ErrCorrupt = errors.New("keystring: malformed key")

var errTypeBits = fmt.Errorf("%w: type bits", ErrCorrupt)

// Decoder gives back the values of a key, field by field.
type Decoder struct {
	key     []byte // what is not read yet, as it stands
	cur     []byte // the field that is read, ascending
	tb      bitsReader
	ord     Ordering
	field   int
	scratch []byte
}

// NewDecoder returns a decoder of key (without a RecordId) with the type bits that
// Append gave for it; without them the common form of each value comes out.
func NewDecoder(key []byte, o Ordering, typeBits []byte) *Decoder {
	d := &Decoder{}
	d.Reset(key, o, typeBits)
	return d
}

// Reset starts over with another key.
func (d *Decoder) Reset(key []byte, o Ordering, typeBits []byte) {
	*d = Decoder{key: key, ord: o, tb: bitsReader{buf: typeBits}, scratch: d.scratch}
}

// Done reports whether all fields have been read.
func (d *Decoder) Done() bool { return len(d.key) == 0 }

// Rest returns the bytes that are not read yet.
func (d *Decoder) Rest() []byte { return d.key }

// Next appends the next field to b under the given name; a missing value appends nothing.
func (d *Decoder) Next(b *bson.Builder, name string) error {
	if len(d.key) == 0 {
		return fmt.Errorf("%w: no more fields", ErrCorrupt)
	}
	d.cur = d.key
	if d.ord.Desc(d.field) {
		d.scratch = append(d.scratch[:0], d.key...)
		invert(d.scratch)
		d.cur = d.scratch
	}
	if err := d.value(b, name, 0); err != nil {
		return err
	}
	d.key = d.key[len(d.key)-len(d.cur):]
	d.field++
	return nil
}

// Decode returns all values of key.
func Decode(key []byte, o Ordering, typeBits []byte) ([]bson.Value, error) {
	var vals []bson.Value
	for d := NewDecoder(key, o, typeBits); !d.Done(); {
		b := bson.NewBuilder(nil)
		if err := d.Next(b, ""); err != nil {
			return nil, err
		}
		_, v := b.Finish().First()
		vals = append(vals, v)
	}
	return vals, nil
}

// FieldLen returns how many bytes the first field of key takes.
func FieldLen(key []byte, desc bool) (int, error) {
	var o Ordering
	if desc {
		o = 1
	}
	d := Decoder{key: key, ord: o}
	if err := d.Next(bson.NewBuilder(nil), ""); err != nil {
		return 0, err
	}
	return len(key) - len(d.key), nil
}

func (d *Decoder) take(n int) ([]byte, error) {
	if n < 0 || len(d.cur) < n {
		return nil, fmt.Errorf("%w: %d bytes are missing", ErrCorrupt, n-len(d.cur))
	}
	b := d.cur[:n]
	d.cur = d.cur[n:]
	return b, nil
}

func (d *Decoder) value(b *bson.Builder, name string, depth int) error {
	if depth > 2*bson.MaxDepth { // keys come from documents of at most MaxDepth
		return fmt.Errorf("%w: nested too deeply", ErrCorrupt)
	}
	t, err := d.take(1)
	if err != nil {
		return err
	}
	switch tag := t[0]; tag {
	case tagMinKey:
		b.Append(name, bson.Value{Type: bson.TypeMinKey})
	case tagMaxKey:
		b.Append(name, bson.Value{Type: bson.TypeMaxKey})
	case tagNull:
		b.Null(name)
	case tagFalse, tagTrue:
		b.Bool(name, tag == tagTrue)
	case tagUndefined:
		return d.undefined(b, name)
	case tagString:
		return d.str(b, name)
	case tagDocument:
		b.Doc(name)
		err = d.elements(b, depth)
		b.End()
	case tagArray:
		err = d.array(b, name, depth)
	case tagCode, tagCodeWScope:
		return d.code(b, name, tag == tagCodeWScope, depth)
	case tagBinary, tagDBPointer:
		return d.sized(b, name, tag == tagDBPointer)
	case tagObjectID, tagDate, tagTimestamp:
		return d.fixed(b, name, tag)
	case tagRegex:
		return d.regex(b, name)
	default:
		if tag < numNaN || tag > numInf {
			return fmt.Errorf("%w: tag %#02x", ErrCorrupt, tag)
		}
		return d.number(b, name, tag)
	}
	return err
}

func (d *Decoder) undefined(b *bson.Builder, name string) error {
	code, err := d.tb.next()
	if err == nil && code != bitsMissing {
		b.Append(name, bson.Value{Type: bson.TypeUndefined})
	}
	return err
}

func (d *Decoder) str(b *bson.Builder, name string) error {
	code, err := d.tb.next()
	if err != nil {
		return err
	}
	s, err := d.text()
	if err != nil {
		return err
	}
	t := bson.TypeString
	if code == bitsSymbol {
		t = bson.TypeSymbol
	}
	b.Append(name, bson.Value{Type: t, Data: lengthPrefixed(s)})
	return nil
}

// lengthPrefixed returns text as BSON writes it.
func lengthPrefixed(s []byte) []byte {
	data := make([]byte, 0, 4+len(s)+1)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(s)+1))
	return append(append(data, s...), 0)
}

// text reads escaped text; the result may alias the key.
func (d *Decoder) text() ([]byte, error) {
	var out []byte
	for i := 0; i < len(d.cur); i++ {
		switch c := d.cur[i]; {
		case c == end:
			s := d.cur[:i]
			if out != nil {
				s = out
			}
			d.cur = d.cur[i+1:]
			return s, nil
		case c == escape:
			if out == nil {
				out = append(make([]byte, 0, len(d.cur)), d.cur[:i]...)
			}
			if i++; i == len(d.cur) || (d.cur[i] != escNUL && d.cur[i] != escOne) {
				return nil, fmt.Errorf("%w: escape", ErrCorrupt)
			}
			out = append(out, d.cur[i]-escNUL)
		case out != nil:
			out = append(out, c)
		}
	}
	return nil, fmt.Errorf("%w: text without an end", ErrCorrupt)
}

// elements reads the elements of a document and its end.
func (d *Decoder) elements(b *bson.Builder, depth int) error {
	for {
		c, err := d.take(1)
		if err != nil || c[0] == end {
			return err
		}
		i := 0
		for i < len(d.cur) && d.cur[i] != end {
			i++
		}
		name, err := d.take(i)
		if err != nil {
			return err
		}
		if _, err := d.take(1); err != nil {
			return err
		}
		if err := d.value(b, string(name), depth+1); err != nil {
			return err
		}
	}
}

func (d *Decoder) array(b *bson.Builder, name string, depth int) error {
	b.Array(name)
	defer b.End()
	for {
		if len(d.cur) == 0 {
			return fmt.Errorf("%w: array without an end", ErrCorrupt)
		}
		if d.cur[0] == end {
			d.cur = d.cur[1:]
			return nil
		}
		if err := d.value(b, "", depth+1); err != nil {
			return err
		}
	}
}

func (d *Decoder) code(b *bson.Builder, name string, scope bool, depth int) error {
	s, err := d.text()
	if err != nil {
		return err
	}
	if !scope {
		b.Append(name, bson.Value{Type: bson.TypeCode, Data: lengthPrefixed(s)})
		return nil
	}
	data := append(make([]byte, 4, 4+len(s)+16), lengthPrefixed(s)...)
	sb := bson.NewBuilder(nil)
	if err := d.elements(sb, depth); err != nil {
		return err
	}
	data = append(data, sb.Finish()...)
	binary.LittleEndian.PutUint32(data, uint32(len(data)))
	b.Append(name, bson.Value{Type: bson.TypeCodeWScope, Data: data})
	return nil
}

// sized reads a binary or a DBPointer.
func (d *Decoder) sized(b *bson.Builder, name string, pointer bool) error {
	l, err := d.take(1)
	if err != nil {
		return err
	}
	n := int(l[0])
	if n == 0xFF {
		if l, err = d.take(4); err != nil {
			return err
		}
		n = int(binary.BigEndian.Uint32(l))
	}
	t, size := bson.TypeBinary, n
	if pointer {
		t, size = bson.TypeDBPointer, n-12
	} else {
		n++ // the subtype
	}
	p, err := d.take(n)
	if err != nil {
		return err
	}
	if pointer && (size < 1 || p[size-1] != 0) {
		return fmt.Errorf("%w: DBPointer", ErrCorrupt)
	}
	if !pointer && p[0] == bson.BinaryOld && (size < 4 || int(binary.LittleEndian.Uint32(p[1:])) != size-4) {
		return fmt.Errorf("%w: inner length of old binary", ErrCorrupt)
	}
	data := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+n), uint32(size))
	b.Append(name, bson.Value{Type: t, Data: append(data, p...)})
	return nil
}

func (d *Decoder) fixed(b *bson.Builder, name string, tag byte) error {
	n := 8
	if tag == tagObjectID {
		n = 12
	}
	p, err := d.take(n)
	if err != nil {
		return err
	}
	switch tag {
	case tagObjectID:
		b.ObjectID(name, bson.ObjectID(p))
	case tagDate:
		b.Date(name, bson.DateTime(binary.BigEndian.Uint64(p)^signBit))
	default:
		b.Timestamp(name, bson.Timestamp(binary.BigEndian.Uint64(p)))
	}
	return nil
}

func (d *Decoder) regex(b *bson.Builder, name string) error {
	n := 0
	for ends := 0; ends < 2; n++ {
		if n == len(d.cur) {
			return fmt.Errorf("%w: regular expression without an end", ErrCorrupt)
		}
		if d.cur[n] == end {
			ends++
		}
	}
	data, err := d.take(n)
	if err == nil {
		b.Append(name, bson.Value{Type: bson.TypeRegex, Data: data})
	}
	return err
}

// magnitude is |x| as a key tells it.
type magnitude struct {
	neg, special bool     // special: NaN, zero, infinity
	ip, frac     uint64   // integer part, fraction in 2^-63
	edge         uint64   // bits of the double, for small and large ones
	cont         *big.Int // coefficient of the decimal, if inexact
	contExp      int
}

func (d *Decoder) number(b *bson.Builder, name string, tag byte) error {
	code, err := d.tb.next()
	if err != nil {
		return err
	}
	m, err := d.magnitude(tag)
	if err != nil {
		return err
	}
	switch code {
	case bitsDecimalRaw:
		p, err := d.tb.take(16)
		if err == nil {
			b.Append(name, bson.Value{Type: bson.TypeDecimal128, Data: p})
		}
		return err
	case bitsDoubleRaw:
		p, err := d.tb.take(8)
		if err == nil {
			b.Double(name, math.Float64frombits(binary.BigEndian.Uint64(p)))
		}
		return err
	case bitsDecimal:
		p, err := d.tb.take(2)
		if err != nil {
			return err
		}
		dec, ok := m.decimal(int(binary.BigEndian.Uint16(p)) - expBias)
		if !ok {
			return errTypeBits
		}
		b.Decimal128(name, dec)
		return nil
	case bitsInt64:
		b.Int64(name, m.int64())
	case bitsDouble:
		b.Double(name, m.double(tag))
	case bitsNegZero:
		b.Double(name, math.Copysign(0, -1))
	case 0:
		m.common(b, name, tag)
	default:
		return errTypeBits
	}
	return nil
}

func (d *Decoder) magnitude(tag byte) (m magnitude, err error) {
	m.neg = tag < numZero
	switch tag {
	case numNaN, numNegInf, numZero, numInf:
		m.special = true
		return m, nil
	case numNegLarge, numNegSmall, numSmall, numLarge:
		if m.edge, err = d.word(8, m.neg); err != nil {
			return m, err
		}
		inexact := m.edge&1 != 0
		if m.edge >>= 1; inexact {
			err = d.continuation(&m)
		}
		return m, err
	}
	n := int(tag) - numInt
	if m.neg {
		n = numNegInt - int(tag)
	}
	if m.ip, err = d.word(n, m.neg); err != nil {
		return m, err
	}
	more := m.ip&1 != 0
	if m.ip >>= 1; !more {
		return m, nil
	}
	if m.frac, err = d.word(8, m.neg); err != nil {
		return m, err
	}
	inexact := m.frac&1 != 0
	if m.frac >>= 1; inexact {
		err = d.continuation(&m)
	}
	return m, err
}

func (d *Decoder) word(n int, neg bool) (u uint64, err error) {
	p, err := d.take(n)
	if err != nil {
		return 0, err
	}
	for _, c := range p {
		if neg {
			c = ^c
		}
		u = u<<8 | uint64(c)
	}
	return u, nil
}

func (d *Decoder) continuation(m *magnitude) error {
	p, err := d.take(contLen)
	if err != nil {
		return err
	}
	b := append(make([]byte, 0, contLen), p...)
	if m.neg {
		invert(b)
	}
	m.contExp = int(binary.BigEndian.Uint16(b)) - expBias
	m.cont = new(big.Int).SetBytes(b[2:])
	return nil
}

func (m *magnitude) int64() int64 {
	switch {
	case m.edge != 0:
		return math.MinInt64 // the only long of the large class
	case m.neg:
		return -int64(m.ip)
	}
	return int64(m.ip)
}

func (m *magnitude) double(tag byte) (f float64) {
	switch {
	case tag == numNaN:
		return math.Float64frombits(canonicalNaN)
	case tag == numInf || tag == numNegInf:
		f = math.Inf(1)
	case m.edge != 0:
		f = math.Float64frombits(m.edge)
	default:
		f = float64(m.ip) + float64(m.frac)/twoTo63f
	}
	if m.neg {
		return -f
	}
	return f
}

// common writes the common form of the value.
func (m *magnitude) common(b *bson.Builder, name string, tag byte) {
	switch {
	case m.cont != nil: // only with type bits lost: the value still is a decimal
		if d, ok := bson.NewDecimal128(m.neg, m.cont, m.contExp); ok {
			b.Decimal128(name, d)
			return
		}
	case tag == numNegLarge && m.edge == math.Float64bits(twoTo63f):
		b.Int64(name, math.MinInt64)
		return
	case m.edge == 0 && m.frac == 0 && (!m.special || tag == numZero):
		b.IntOrLong(name, m.int64())
		return
	}
	b.Double(name, m.double(tag))
}

// decimal returns the decimal with exponent exp that has exactly this value.
func (m *magnitude) decimal(exp int) (bson.Decimal128, bool) {
	if exp < -expBias || exp > expBias {
		return bson.Decimal128{}, false
	}
	num, den := big.NewInt(0), big.NewInt(1)
	switch {
	case m.special:
		return bson.Decimal128{}, false
	case m.cont != nil:
		if num.Set(m.cont); m.contExp >= 0 {
			num.Mul(num, pow10(m.contExp))
		} else {
			den = pow10(-m.contExp)
		}
	case m.edge != 0:
		r := new(big.Rat).SetFloat64(math.Float64frombits(m.edge))
		if r == nil {
			return bson.Decimal128{}, false
		}
		num, den = r.Num(), r.Denom()
	default:
		num.SetUint64(m.ip)
		if m.frac != 0 {
			num.Lsh(num, 63).Or(num, new(big.Int).SetUint64(m.frac))
			den.Lsh(den, 63)
		}
	}
	if exp >= 0 {
		den = new(big.Int).Mul(den, pow10(exp))
	} else {
		num = new(big.Int).Mul(num, pow10(-exp))
	}
	c, rem := new(big.Int).QuoRem(num, den, new(big.Int))
	if rem.Sign() != 0 {
		return bson.Decimal128{}, false
	}
	return bson.NewDecimal128(m.neg, c, exp)
}
