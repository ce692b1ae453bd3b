package bson

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"math"
	"time"
	"unsafe"
)

// Value is a view of one BSON value: its type and exactly its bytes. The zero Value
// is "missing". A Value aliases the document it was read from.
type Value struct {
	Type Type
	Data []byte
}

// ObjectID is a 12-byte BSON ObjectId.
type ObjectID [12]byte

// String returns the 24 hex digits of id.
func (id ObjectID) String() string { return hex.EncodeToString(id[:]) }

// UUID is the payload of a binary value of subtype 4.
type UUID [16]byte

// NewUUID returns a random UUID of version 4.
func NewUUID() (u UUID) {
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0F|0x40, u[8]&0x3F|0x80
	return u
}

// String returns the usual 8-4-4-4-12 form.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// DateTime is a BSON date: milliseconds since the Unix epoch, UTC.
type DateTime int64

// Time returns d as a time in UTC.
func (d DateTime) Time() time.Time { return time.UnixMilli(int64(d)).UTC() }

// NewDateTime returns t cut to milliseconds.
func NewDateTime(t time.Time) DateTime { return DateTime(t.UnixMilli()) }

// Timestamp is a BSON timestamp: seconds << 32 | increment.
type Timestamp uint64

// NewTimestamp joins seconds since the epoch and an increment.
func NewTimestamp(sec, inc uint32) Timestamp { return Timestamp(uint64(sec)<<32 | uint64(inc)) }

// Seconds returns the seconds part.
func (t Timestamp) Seconds() uint32 { return uint32(t >> 32) }

// Increment returns the increment part.
func (t Timestamp) Increment() uint32 { return uint32(t) }

// Regex is a BSON regular expression.
type Regex struct{ Pattern, Options string }

func unsafeString(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}

// IsMissing reports whether v stands for no value at all.
func (v Value) IsMissing() bool { return v.Type == TypeMissing }

// IsNullish reports whether v is missing, null or undefined.
func (v Value) IsNullish() bool {
	return v.Type == TypeMissing || v.Type == TypeNull || v.Type == TypeUndefined
}

// IsNumber reports whether v is of a numeric type.
func (v Value) IsNumber() bool { return v.Type.IsNumber() }

// Clone returns v with bytes of its own.
func (v Value) Clone() Value {
	return Value{v.Type, append([]byte(nil), v.Data...)}
}

// The accessors below require the type they name; on another type they return the zero value.

// Double returns a double's value.
func (v Value) Double() float64 {
	if v.Type != TypeDouble {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(v.Data))
}

// Int32 returns an int's value.
func (v Value) Int32() int32 {
	if v.Type != TypeInt32 {
		return 0
	}
	return int32(binary.LittleEndian.Uint32(v.Data))
}

// Int64 returns a long's value.
func (v Value) Int64() int64 {
	if v.Type != TypeInt64 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(v.Data))
}

// Bool returns a bool's value.
func (v Value) Bool() bool { return v.Type == TypeBool && v.Data[0] != 0 }

// Date returns a date's value.
func (v Value) Date() DateTime {
	if v.Type != TypeDate {
		return 0
	}
	return DateTime(binary.LittleEndian.Uint64(v.Data))
}

// Timestamp returns a timestamp's value.
func (v Value) Timestamp() Timestamp {
	if v.Type != TypeTimestamp {
		return 0
	}
	return Timestamp(binary.LittleEndian.Uint64(v.Data))
}

// ObjectID returns an ObjectId's value.
func (v Value) ObjectID() (id ObjectID) {
	if v.Type == TypeObjectID {
		copy(id[:], v.Data)
	}
	return id
}

// Str returns the text of a string, symbol or JavaScript value without its
// terminator. It aliases the document.
func (v Value) Str() string { return unsafeString(v.StrBytes()) }

// StrBytes is Str as bytes.
func (v Value) StrBytes() []byte {
	switch v.Type {
	case TypeString, TypeSymbol, TypeCode:
		return v.Data[4 : len(v.Data)-1]
	case TypeCodeWScope:
		n := binary.LittleEndian.Uint32(v.Data[4:])
		return v.Data[8 : 8+n-1]
	}
	return nil
}

// Doc returns the bytes of a document or array value, or nil.
func (v Value) Doc() Raw {
	if v.Type == TypeDocument || v.Type == TypeArray {
		return Raw(v.Data)
	}
	return nil
}

// Scope returns the scope of a JavaScript-with-scope value, or nil.
func (v Value) Scope() Raw {
	if v.Type != TypeCodeWScope {
		return nil
	}
	n := binary.LittleEndian.Uint32(v.Data[4:])
	return Raw(v.Data[8+n:])
}

// Binary returns subtype and payload of a binary value. The inner length of the
// old subtype 2 is left in the payload.
func (v Value) Binary() (subtype byte, data []byte) {
	if v.Type != TypeBinary {
		return 0, nil
	}
	return v.Data[4], v.Data[5:]
}

// UUID returns the payload of a binary value of subtype 4 with 16 bytes.
func (v Value) UUID() (u UUID, ok bool) {
	if st, d := v.Binary(); v.Type == TypeBinary && st == BinaryUUID && len(d) == 16 {
		copy(u[:], d)
		return u, true
	}
	return u, false
}

// Regex returns pattern and options of a regular expression.
func (v Value) Regex() (r Regex) {
	if v.Type != TypeRegex {
		return r
	}
	for i, c := range v.Data {
		if c == 0 {
			return Regex{unsafeString(v.Data[:i]), unsafeString(v.Data[i+1 : len(v.Data)-1])}
		}
	}
	return r
}

// DBPointer returns namespace and id of a DBPointer value.
func (v Value) DBPointer() (ns string, id ObjectID) {
	if v.Type != TypeDBPointer {
		return "", id
	}
	n := len(v.Data) - 12
	copy(id[:], v.Data[n:])
	return unsafeString(v.Data[4 : n-1]), id
}

// AsInt64 returns v as an integer if it is a number with an integral value in
// range (2.0 and NumberDecimal("2") are), as MongoDB's "exact long" coercion does.
func (v Value) AsInt64() (int64, bool) {
	switch v.Type {
	case TypeInt32:
		return int64(v.Int32()), true
	case TypeInt64:
		return v.Int64(), true
	case TypeDouble:
		f := v.Double()
		if f != math.Trunc(f) || f < -(1<<63) || f >= 1<<63 {
			return 0, false
		}
		return int64(f), true
	case TypeDecimal128:
		return v.Decimal128().Int64()
	}
	return 0, false
}

// AsFloat64 returns the nearest double of a number.
func (v Value) AsFloat64() (float64, bool) {
	switch v.Type {
	case TypeInt32:
		return float64(v.Int32()), true
	case TypeInt64:
		return float64(v.Int64()), true
	case TypeDouble:
		return v.Double(), true
	case TypeDecimal128:
		return v.Decimal128().Float64(), true
	}
	return 0, false
}

// Truthy is MongoDB's coercion to bool: false, 0, null, undefined and missing are
// false, everything else (NaN, "" and [] too) is true.
func (v Value) Truthy() bool {
	switch v.Type {
	case TypeMissing, TypeNull, TypeUndefined:
		return false
	case TypeBool:
		return v.Bool()
	case TypeInt32:
		return v.Int32() != 0
	case TypeInt64:
		return v.Int64() != 0
	case TypeDouble:
		return v.Double() != 0
	case TypeDecimal128:
		return !v.Decimal128().IsZero()
	}
	return true
}
