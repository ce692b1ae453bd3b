package keystring

import (
	"bytes"
	"encoding/binary"

	"github.com/cairndb/cairn/internal/bson"
)

// Version is the version of the format; it changes with any change of a byte.
const Version = 1

// The first byte of a value. Numbers have a range of their own, see number.go.
const (
	tagMinKey     = 0x0A
	tagUndefined  = 0x0F
	tagNull       = 0x14
	tagNumber     = 0x1E // the lowest; the class byte of numbers inside documents
	tagString     = 0x3C
	tagDocument   = 0x46
	tagArray      = 0x50
	tagBinary     = 0x5A
	tagObjectID   = 0x64
	tagFalse      = 0x6E
	tagTrue       = 0x6F
	tagDate       = 0x78
	tagTimestamp  = 0x82
	tagRegex      = 0x8C
	tagDBPointer  = 0x96
	tagCode       = 0xA0
	tagCodeWScope = 0xAA
	tagMaxKey     = 0xF0

	end     = 0x00 // ends text, documents and arrays
	escape  = 0x01 // in text, stands before escNUL or escOne
	escNUL  = 0x01
	escOne  = 0x02
	signBit = 1 << 63
)

// MaxFields is how many fields a compound key may have.
const MaxFields = 32

// Above, appended to a prefix of whole fields, is greater than every key that
// begins with that prefix.
const Above = 0xFF

// Ordering tells the descending fields of a compound key: bit i for field i.
type Ordering uint32

// NewOrdering reads a key pattern: a field whose value is a negative number is descending.
func NewOrdering(pattern bson.Raw) (o Ordering) {
	i := 0
	for it := pattern.Iter(); it.Next(); i++ {
		if f, ok := it.Value().AsFloat64(); ok && f < 0 && i < MaxFields {
			o |= 1 << i
		}
	}
	return o
}

// Desc reports whether field i is descending.
func (o Ordering) Desc(i int) bool { return o>>i&1 != 0 }

// AppendKey appends the fields of a compound key; a missing value counts as undefined.
func AppendKey(dst []byte, vals []bson.Value, o Ordering, tb *TypeBits) []byte {
	for i, v := range vals {
		dst = Append(dst, v, o.Desc(i), tb)
	}
	return dst
}

// Append appends one field. What the key does not tell of v goes to tb, unless it is nil.
func Append(dst []byte, v bson.Value, desc bool, tb *TypeBits) []byte {
	if !desc {
		return appendValue(dst, v, tb)
	}
	n := len(dst)
	dst = appendValue(dst, v, tb)
	invert(dst[n:])
	return dst
}

func invert(b []byte) {
	for i := range b {
		b[i] = ^b[i]
	}
}

func appendValue(dst []byte, v bson.Value, tb *TypeBits) []byte {
	switch v.Type {
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		return appendNumber(dst, v, tb)
	case bson.TypeString, bson.TypeSymbol:
		tb.add(v.Type == bson.TypeSymbol, bitsSymbol)
		return appendText(append(dst, tagString), v.StrBytes())
	case bson.TypeObjectID:
		return append(append(dst, tagObjectID), v.Data...)
	case bson.TypeDate:
		return binary.BigEndian.AppendUint64(append(dst, tagDate), uint64(v.Date())^signBit)
	case bson.TypeNull:
		return append(dst, tagNull)
	case bson.TypeMissing, bson.TypeUndefined:
		tb.add(v.Type == bson.TypeMissing, bitsMissing)
		return append(dst, tagUndefined)
	case bson.TypeBool:
		if v.Bool() {
			return append(dst, tagTrue)
		}
		return append(dst, tagFalse)
	case bson.TypeDocument:
		return appendDocument(append(dst, tagDocument), v.Doc(), tb)
	case bson.TypeArray:
		dst = append(dst, tagArray)
		for it := v.Doc().Iter(); it.Next(); {
			dst = appendValue(dst, it.Value(), tb)
		}
		return append(dst, end)
	case bson.TypeBinary:
		dst = appendLength(append(dst, tagBinary), len(v.Data)-5)
		return append(dst, v.Data[4:]...) // subtype, payload
	case bson.TypeTimestamp:
		return binary.BigEndian.AppendUint64(append(dst, tagTimestamp), uint64(v.Timestamp()))
	case bson.TypeRegex: // pattern and options cannot hold a NUL and come terminated
		return append(append(dst, tagRegex), v.Data...)
	case bson.TypeDBPointer:
		dst = appendLength(append(dst, tagDBPointer), len(v.Data)-4)
		return append(dst, v.Data[4:]...)
	case bson.TypeCode:
		return appendText(append(dst, tagCode), v.StrBytes())
	case bson.TypeCodeWScope:
		dst = appendText(append(dst, tagCodeWScope), v.StrBytes())
		return appendDocument(dst, v.Scope(), tb)
	case bson.TypeMinKey:
		return append(dst, tagMinKey)
	default: // MaxKey; bytes that Validate refuses do not come here
		return append(dst, tagMaxKey)
	}
}

// appendDocument writes what bson.CompareDocs compares, in its order: of each
// element the class of its type, its name, its value.
func appendDocument(dst []byte, d bson.Raw, tb *TypeBits) []byte {
	for it := d.Iter(); it.Next(); {
		dst = append(dst, class[it.Value().Type])
		dst = append(dst, it.Key()...)
		dst = append(dst, end)
		dst = appendValue(dst, it.Value(), tb)
	}
	return append(dst, end)
}

// class is one byte for each place in the order across types.
var class = [256]byte{
	bson.TypeMinKey: tagMinKey, bson.TypeUndefined: tagUndefined, bson.TypeNull: tagNull,
	bson.TypeDouble: tagNumber, bson.TypeInt32: tagNumber, bson.TypeInt64: tagNumber, bson.TypeDecimal128: tagNumber,
	bson.TypeString: tagString, bson.TypeSymbol: tagString, bson.TypeDocument: tagDocument,
	bson.TypeArray: tagArray, bson.TypeBinary: tagBinary, bson.TypeObjectID: tagObjectID,
	bson.TypeBool: tagFalse, bson.TypeDate: tagDate, bson.TypeTimestamp: tagTimestamp,
	bson.TypeRegex: tagRegex, bson.TypeDBPointer: tagDBPointer, bson.TypeCode: tagCode,
	bson.TypeCodeWScope: tagCodeWScope, bson.TypeMaxKey: tagMaxKey,
}

// appendText writes text so that its end sorts below any continuation and no text
// is a prefix of another: 0x00 and 0x01 are escaped, 0x00 ends it.
func appendText(dst, s []byte) []byte {
	if bytes.IndexByte(s, 0) >= 0 || bytes.IndexByte(s, escape) >= 0 {
		for _, c := range s {
			switch c {
			case 0:
				dst = append(dst, escape, escNUL)
			case escape:
				dst = append(dst, escape, escOne)
			default:
				dst = append(dst, c)
			}
		}
		return append(dst, end)
	}
	return append(append(dst, s...), end)
}

// appendLength writes n in one byte below 0xFF, in five from there on.
func appendLength(dst []byte, n int) []byte {
	if n < 0xFF {
		return append(dst, byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xFF), uint32(n))
}

// RecordIDLen is the size of a RecordId behind a key.
const RecordIDLen = 8

// AppendRecordID appends the 8 ordered bytes of a RecordId.
func AppendRecordID(dst []byte, id int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(id)^signBit)
}

// RecordID reads the RecordId in the first 8 bytes of b.
func RecordID(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ signBit) }

// SplitRecordID takes the RecordId off the end of an index entry's key.
func SplitRecordID(entry []byte) (key []byte, id int64, ok bool) {
	n := len(entry) - RecordIDLen
	if n < 0 {
		return nil, 0, false
	}
	return entry[:n:n], RecordID(entry[n:]), true
}
