package bson

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Builder appends BSON to a buffer. Start with a document, add elements, open and
// end nested ones, then End the root:
//
//	b := bson.NewBuilder(buf)     // appends behind what buf holds
//	b.Doc("cursor"); b.Array("firstBatch"); b.AppendDoc("", d); b.End(); b.End()
//	b.Double("ok", 1)
//	raw := b.Finish()
//
// Inside an array the key argument is ignored and numbered. A Builder may be reused
// through Reset. Misuse (unbalanced End) panics.
type Builder struct {
	buf   []byte
	stack []frame
	first [4]frame // spares an allocation where documents nest little
}

type frame struct {
	start int // offset of the length
	next  int // next array index, -1 in a document
}

// NewBuilder returns a builder whose root document starts behind dst.
func NewBuilder(dst []byte) *Builder {
	b := &Builder{}
	b.Reset(dst)
	return b
}

// Reset begins a new root document behind dst.
func (b *Builder) Reset(dst []byte) {
	if b.stack == nil {
		b.stack = b.first[:0]
	}
	b.buf, b.stack = dst, b.stack[:0]
	b.open(-1)
}

func (b *Builder) open(next int) {
	b.stack = append(b.stack, frame{len(b.buf), next})
	b.buf = append(b.buf, 0, 0, 0, 0)
}

// Depth returns how many documents are open, the root included.
func (b *Builder) Depth() int { return len(b.stack) }

// Len returns how many bytes the buffer holds.
func (b *Builder) Len() int { return len(b.buf) }

func (b *Builder) key(t Type, key string) {
	f := &b.stack[len(b.stack)-1]
	b.buf = append(b.buf, byte(t))
	if f.next >= 0 {
		b.buf = strconv.AppendInt(b.buf, int64(f.next), 10)
		f.next++
	} else {
		b.buf = append(b.buf, key...)
	}
	b.buf = append(b.buf, 0)
}

// Doc opens a subdocument.
func (b *Builder) Doc(key string) *Builder { b.key(TypeDocument, key); b.open(-1); return b }

// Array opens an array.
func (b *Builder) Array(key string) *Builder { b.key(TypeArray, key); b.open(0); return b }

// End closes the innermost open document or array.
func (b *Builder) End() *Builder {
	f := b.stack[len(b.stack)-1]
	b.stack = b.stack[:len(b.stack)-1]
	b.buf = append(b.buf, 0)
	binary.LittleEndian.PutUint32(b.buf[f.start:], uint32(len(b.buf)-f.start))
	return b
}

// Finish closes everything that is open and returns the root document.
func (b *Builder) Finish() Raw {
	start := b.stack[0].start
	for len(b.stack) > 0 {
		b.End()
	}
	return Raw(b.buf[start:])
}

// Buffer returns the whole buffer, what stood before the root included.
func (b *Builder) Buffer() []byte { return b.buf }

// Mark remembers a state that Rewind returns to.
type Mark struct{ size, next int }

// Mark returns the present state inside the innermost open document.
func (b *Builder) Mark() Mark { return Mark{len(b.buf), b.stack[len(b.stack)-1].next} }

// Rewind drops what was appended to the innermost document since m.
func (b *Builder) Rewind(m Mark) {
	b.buf = b.buf[:m.size]
	b.stack[len(b.stack)-1].next = m.next
}

// Append adds an element with the bytes of v; a missing value adds nothing.
func (b *Builder) Append(key string, v Value) *Builder {
	if v.Type == TypeMissing {
		return b
	}
	b.key(v.Type, key)
	b.buf = append(b.buf, v.Data...)
	return b
}

// AppendDoc adds a document.
func (b *Builder) AppendDoc(key string, d Raw) *Builder {
	b.key(TypeDocument, key)
	b.buf = append(b.buf, d...)
	return b
}

// AppendDocFrom adds the document that read returns; if it returns an error, nothing. read gets
// memory that it may put the document into (length 0), where it is not copied any more.
func (b *Builder) AppendDocFrom(key string, read func(room []byte) (Raw, error)) error {
	m := b.Mark()
	b.key(TypeDocument, key)
	n := len(b.buf)
	room := b.buf[n:n:cap(b.buf)]
	d, err := read(room)
	switch {
	case err != nil:
		b.Rewind(m)
	case len(d) > 0 && len(d) <= cap(room) && &d[0] == &room[:1][0]:
		b.buf = b.buf[:n+len(d)]
	default:
		b.buf = append(b.buf, d...)
	}
	return err
}

// AppendArray adds an array.
func (b *Builder) AppendArray(key string, a Array) *Builder {
	b.key(TypeArray, key)
	b.buf = append(b.buf, a...)
	return b
}

// AppendElems adds all elements of d.
func (b *Builder) AppendElems(d Raw) *Builder {
	if b.stack[len(b.stack)-1].next < 0 {
		if len(d) > 5 {
			b.buf = append(b.buf, d[4:len(d)-1]...)
		}
		return b
	}
	for _, v := range d.Elems() {
		b.Append("", v)
	}
	return b
}

// Int32 adds an int.
func (b *Builder) Int32(key string, v int32) *Builder {
	b.key(TypeInt32, key)
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(v))
	return b
}

// Int64 adds a long.
func (b *Builder) Int64(key string, v int64) *Builder {
	b.key(TypeInt64, key)
	b.buf = binary.LittleEndian.AppendUint64(b.buf, uint64(v))
	return b
}

// IntOrLong adds an int if v fits, else a long, as MongoDB's counters do.
func (b *Builder) IntOrLong(key string, v int64) *Builder {
	if v >= math.MinInt32 && v <= math.MaxInt32 {
		return b.Int32(key, int32(v))
	}
	return b.Int64(key, v)
}

// Double adds a double.
func (b *Builder) Double(key string, v float64) *Builder {
	b.key(TypeDouble, key)
	b.buf = binary.LittleEndian.AppendUint64(b.buf, math.Float64bits(v))
	return b
}

// Decimal128 adds a decimal.
func (b *Builder) Decimal128(key string, v Decimal128) *Builder {
	b.key(TypeDecimal128, key)
	b.buf = binary.LittleEndian.AppendUint64(b.buf, v.Lo)
	b.buf = binary.LittleEndian.AppendUint64(b.buf, v.Hi)
	return b
}

// Str adds a string.
func (b *Builder) Str(key, v string) *Builder {
	b.key(TypeString, key)
	b.buf = appendString(b.buf, v)
	return b
}

// Join appends a string made of parts, without making it first.
func (b *Builder) Join(key string, parts ...string) *Builder {
	b.key(TypeString, key)
	n := 1
	for _, p := range parts {
		n += len(p)
	}
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(n))
	for _, p := range parts {
		b.buf = append(b.buf, p...)
	}
	b.buf = append(b.buf, 0)
	return b
}

func appendString(dst []byte, v string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(v)+1))
	dst = append(dst, v...)
	return append(dst, 0)
}

// Bool adds a bool.
func (b *Builder) Bool(key string, v bool) *Builder {
	b.key(TypeBool, key)
	if v {
		b.buf = append(b.buf, 1)
	} else {
		b.buf = append(b.buf, 0)
	}
	return b
}

// Null adds null.
func (b *Builder) Null(key string) *Builder { b.key(TypeNull, key); return b }

// Date adds a date.
func (b *Builder) Date(key string, v DateTime) *Builder {
	b.key(TypeDate, key)
	b.buf = binary.LittleEndian.AppendUint64(b.buf, uint64(v))
	return b
}

// Timestamp adds a timestamp.
func (b *Builder) Timestamp(key string, v Timestamp) *Builder {
	b.key(TypeTimestamp, key)
	b.buf = binary.LittleEndian.AppendUint64(b.buf, uint64(v))
	return b
}

// ObjectID adds an ObjectId.
func (b *Builder) ObjectID(key string, v ObjectID) *Builder {
	b.key(TypeObjectID, key)
	b.buf = append(b.buf, v[:]...)
	return b
}

// Binary adds a binary value.
func (b *Builder) Binary(key string, subtype byte, data []byte) *Builder {
	b.key(TypeBinary, key)
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(len(data)))
	b.buf = append(b.buf, subtype)
	b.buf = append(b.buf, data...)
	return b
}

// UUID adds a binary value of subtype 4.
func (b *Builder) UUID(key string, u UUID) *Builder { return b.Binary(key, BinaryUUID, u[:]) }

// Regex adds a regular expression.
func (b *Builder) Regex(key string, r Regex) *Builder {
	b.key(TypeRegex, key)
	b.buf = append(b.buf, r.Pattern...)
	b.buf = append(b.buf, 0)
	b.buf = append(b.buf, r.Options...)
	b.buf = append(b.buf, 0)
	return b
}

// Any adds a Go value: nil, bool, int (int if it fits, else long), int32, int64,
// float64, string, Raw, Array, Value, ObjectID, UUID, DateTime, time.Time, Timestamp, Regex,
// Decimal128, []byte (generic binary), []string, []Raw, []Value or []any. It is
// meant for replies and tests, not for hot paths; another type panics.
func (b *Builder) Any(key string, v any) *Builder {
	switch v := v.(type) {
	case nil:
		return b.Null(key)
	case bool:
		return b.Bool(key, v)
	case int:
		return b.IntOrLong(key, int64(v))
	case int32:
		return b.Int32(key, v)
	case int64:
		return b.Int64(key, v)
	case float64:
		return b.Double(key, v)
	case string:
		return b.Str(key, v)
	case Raw:
		return b.AppendDoc(key, v)
	case Array:
		return b.AppendArray(key, v)
	case Value:
		return b.Append(key, v)
	case ObjectID:
		return b.ObjectID(key, v)
	case UUID:
		return b.UUID(key, v)
	case DateTime:
		return b.Date(key, v)
	case time.Time:
		return b.Date(key, NewDateTime(v))
	case Timestamp:
		return b.Timestamp(key, v)
	case Regex:
		return b.Regex(key, v)
	case Decimal128:
		return b.Decimal128(key, v)
	case []byte:
		return b.Binary(key, BinaryGeneric, v)
	case []string:
		b.Array(key)
		for _, s := range v {
			b.Str("", s)
		}
		return b.End()
	case []Raw:
		b.Array(key)
		for _, d := range v {
			b.AppendDoc("", d)
		}
		return b.End()
	case []Value:
		b.Array(key)
		for _, e := range v {
			b.Append("", e)
		}
		return b.End()
	case []any:
		b.Array(key)
		for _, e := range v {
			b.Any("", e)
		}
		return b.End()
	}
	panic(fmt.Sprintf("bson: cannot encode %T", v))
}

// D builds a document from key, value pairs; see Any for the values.
func D(kv ...any) Raw {
	b := NewBuilder(nil)
	for i := 0; i+1 < len(kv); i += 2 {
		b.Any(kv[i].(string), kv[i+1])
	}
	return b.Finish()
}

// A builds an array from values; see Builder.Any.
func A(vs ...any) Array {
	b := NewBuilder(nil)
	b.stack[0].next = 0
	for _, v := range vs {
		b.Any("", v)
	}
	return Array(b.Finish())
}

// NewArrayBuilder is NewBuilder for an array as the root; take the result with
// Array(b.Finish()).
func NewArrayBuilder(dst []byte) *Builder {
	b := NewBuilder(dst)
	b.stack[0].next = 0
	return b
}

// V returns one value; see Builder.Any.
func V(v any) Value {
	b := NewBuilder(nil)
	b.Any("", v)
	_, val := b.Finish().First()
	return val
}
