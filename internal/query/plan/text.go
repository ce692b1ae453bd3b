package plan

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// AppendText appends v as MongoDB writes values in explain's bounds and in error
// messages: { a: 1, b: "x" }.
func AppendText(dst []byte, v bson.Value) []byte {
	switch v.Type {
	case bson.TypeDouble:
		return appendDouble(dst, v.Double())
	case bson.TypeString, bson.TypeSymbol:
		dst = append(dst, '"')
		dst = append(dst, escapeText(v.Str())...)
		return append(dst, '"')
	case bson.TypeDocument:
		return appendDocText(dst, v.Doc())
	case bson.TypeArray:
		return appendArrayText(dst, v.Doc())
	case bson.TypeBinary:
		if u, ok := v.UUID(); ok {
			return append(append(append(dst, `UUID("`...), u.String()...), `")`...)
		}
		st, d := v.Binary()
		dst = append(strconv.AppendInt(append(dst, "BinData("...), int64(st), 10), ", "...)
		return append(append(dst, strings.ToUpper(hex.EncodeToString(d))...), ')')
	case bson.TypeUndefined:
		return append(dst, "undefined"...)
	case bson.TypeObjectID:
		return append(append(append(dst, "ObjectId('"...), v.ObjectID().String()...), "')"...)
	case bson.TypeBool:
		return strconv.AppendBool(dst, v.Bool())
	case bson.TypeDate:
		return append(strconv.AppendInt(append(dst, "new Date("...), int64(v.Date()), 10), ')')
	case bson.TypeNull:
		return append(dst, "null"...)
	case bson.TypeRegex:
		r := v.Regex()
		dst = append(append(append(dst, '/'), r.Pattern...), '/')
		return append(dst, r.Options...)
	case bson.TypeDBPointer:
		ns, id := v.DBPointer()
		dst = append(append(append(dst, "DBRef('"...), ns...), "',"...)
		return append(append(dst, id.String()...), ')')
	case bson.TypeCode:
		return append(dst, v.Str()...)
	case bson.TypeCodeWScope:
		dst = append(append(append(dst, "CodeWScope( "...), v.Str()...), ", "...)
		return append(appendDocText(dst, v.Scope()), ')')
	case bson.TypeInt32:
		return strconv.AppendInt(dst, int64(v.Int32()), 10)
	case bson.TypeInt64:
		return strconv.AppendInt(dst, v.Int64(), 10)
	case bson.TypeTimestamp:
		t := v.Timestamp()
		dst = strconv.AppendUint(append(dst, "Timestamp("...), uint64(t.Seconds()), 10)
		return append(strconv.AppendUint(append(dst, ", "...), uint64(t.Increment()), 10), ')')
	case bson.TypeDecimal128:
		return append(dst, v.Decimal128().String()...)
	case bson.TypeMinKey:
		return append(dst, "MinKey"...)
	case bson.TypeMaxKey:
		return append(dst, "MaxKey"...)
	}
	return dst
}

func appendDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "nan.0"...)
	case math.IsInf(f, 1):
		return append(dst, "inf.0"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf.0"...)
	}
	s := strconv.FormatFloat(f, 'g', 16, 64)
	if back, _ := strconv.ParseFloat(s, 64); back != f {
		s = strconv.FormatFloat(f, 'g', 17, 64)
	}
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return append(dst, s...)
}

func escapeText(s string) string {
	if !strings.ContainsAny(s, "\"\\\n\r\t") {
		return s
	}
	return strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s)
}

func appendDocText(dst []byte, d bson.Raw) []byte {
	if d.IsEmpty() {
		return append(dst, "{}"...)
	}
	sep := "{ "
	for k, v := range d.Elems() {
		dst = append(append(append(dst, sep...), k...), ": "...)
		dst = AppendText(dst, v)
		sep = ", "
	}
	return append(dst, " }"...)
}

func appendArrayText(dst []byte, d bson.Raw) []byte {
	if d.IsEmpty() {
		return append(dst, "[]"...)
	}
	sep := "[ "
	for v := range d.Values() {
		dst = AppendText(append(dst, sep...), v)
		sep = ", "
	}
	return append(dst, " ]"...)
}

// Text returns v as AppendText writes it.
func Text(v bson.Value) string { return string(AppendText(nil, v)) }

// String returns the interval as explain shows it: "[1, 5)".
func (iv Interval) String() string {
	b := []byte{'('}
	if iv.LoInc {
		b[0] = '['
	}
	b = AppendText(b, iv.Lo)
	b = AppendText(append(b, ", "...), iv.Hi)
	if iv.HiInc {
		return string(append(b, ']'))
	}
	return string(append(b, ')'))
}

// reversed returns the interval as a scan in descending order meets it.
func (iv Interval) reversed() Interval {
	return Interval{iv.Hi, iv.Lo, iv.HiInc, iv.LoInc}
}
