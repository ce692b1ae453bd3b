package bson

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"
)

// String returns r in MongoDB's text form, as error messages show it: { a: 1.0, b: [ "x" ] }.
func (r Raw) String() string { return string(appendDocText(nil, r, false)) }

// String returns v in MongoDB's text form, as error messages and explain show it.
func (v Value) String() string { return string(appendText(nil, v)) }

func appendDocText(dst []byte, r Raw, array bool) []byte {
	open, end := byte('{'), byte('}')
	if array {
		open, end = '[', ']'
	}
	dst = append(dst, open)
	it := r.Iter()
	for n := 0; it.Next(); n++ {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, ' ')
		if !array {
			dst = append(dst, it.Key()...)
			dst = append(dst, ": "...)
		}
		dst = appendText(dst, it.Value())
	}
	if len(dst) > 0 && dst[len(dst)-1] != open {
		dst = append(dst, ' ')
	} else if !r.IsEmpty() {
		dst = append(dst, ' ')
	}
	return append(dst, end)
}

func appendText(dst []byte, v Value) []byte {
	switch v.Type {
	case TypeMissing:
		return append(dst, "EOO"...)
	case TypeMinKey:
		return append(dst, "MinKey"...)
	case TypeMaxKey:
		return append(dst, "MaxKey"...)
	case TypeNull:
		return append(dst, "null"...)
	case TypeUndefined:
		return append(dst, "undefined"...)
	case TypeDouble:
		return append(dst, doubleText(v.Double())...)
	case TypeInt32, TypeInt64:
		i, _ := v.AsInt64()
		return strconv.AppendInt(dst, i, 10)
	case TypeDecimal128:
		return append(dst, v.Decimal128().String()...)
	case TypeBool:
		return strconv.AppendBool(dst, v.Bool())
	case TypeString, TypeSymbol:
		dst = append(dst, '"')
		dst = append(dst, v.StrBytes()...)
		return append(dst, '"')
	case TypeCode:
		return append(dst, v.StrBytes()...)
	case TypeCodeWScope:
		dst = append(dst, "CodeWScope( "...)
		dst = append(dst, v.StrBytes()...)
		dst = append(dst, ", "...)
		dst = appendDocText(dst, v.Scope(), false)
		return append(dst, ')')
	case TypeDocument:
		return appendDocText(dst, Raw(v.Data), false)
	case TypeArray:
		return appendDocText(dst, Raw(v.Data), true)
	case TypeDate:
		dst = append(dst, "new Date("...)
		dst = strconv.AppendInt(dst, int64(v.Date()), 10)
		return append(dst, ')')
	case TypeTimestamp:
		dst = append(dst, "Timestamp("...)
		dst = strconv.AppendUint(dst, uint64(v.Timestamp().Seconds()), 10)
		dst = append(dst, ", "...)
		dst = strconv.AppendUint(dst, uint64(v.Timestamp().Increment()), 10)
		return append(dst, ')')
	case TypeObjectID:
		return append(append(append(dst, "ObjectId('"...), v.ObjectID().String()...), "')"...)
	case TypeRegex:
		r := v.Regex()
		return append(append(append(append(dst, '/'), r.Pattern...), '/'), r.Options...)
	case TypeDBPointer:
		ns, id := v.DBPointer()
		return append(dst, "DBRef('"+ns+"',"+id.String()+")"...)
	case TypeBinary:
		if u, ok := v.UUID(); ok {
			return append(append(append(dst, `UUID("`...), u.String()...), `")`...)
		}
		st, data := v.Binary()
		dst = append(dst, "BinData("...)
		dst = strconv.AppendUint(dst, uint64(st), 10)
		dst = append(dst, ", "...)
		dst = append(dst, strings.ToUpper(hex.EncodeToString(data))...)
		return append(dst, ')')
	}
	return append(dst, v.Type.String()...)
}

// doubleText prints 16 digits at most and marks integral doubles with ".0".
func doubleText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan.0"
	case math.IsInf(f, 1):
		return "inf.0"
	case math.IsInf(f, -1):
		return "-inf.0"
	}
	s := strconv.FormatFloat(f, 'g', 16, 64)
	if m, e, ok := strings.Cut(s, "e"); ok {
		if strings.Contains(m, ".") {
			m = strings.TrimRight(strings.TrimRight(m, "0"), ".")
		}
		s = m + "e" + e
	} else if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
