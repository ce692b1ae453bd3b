package expr

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// ToJSON writes a value as MongoDB's error messages do: "{ a: 1, b: [ 2.5, "x" ] }".
func ToJSON(v bson.Value) string {
	var sb strings.Builder
	writeJSON(&sb, v)
	return sb.String()
}

func writeJSON(sb *strings.Builder, v bson.Value) {
	switch v.Type {
	case bson.TypeDocument, bson.TypeArray:
		writeJSONContainer(sb, v)
	case bson.TypeString, bson.TypeSymbol:
		sb.WriteByte('"')
		sb.WriteString(escapeJSON(v.Str()))
		sb.WriteByte('"')
	case bson.TypeDouble:
		sb.WriteString(jsonDouble(v.Double()))
	case bson.TypeInt32:
		sb.WriteString(strconv.Itoa(int(v.Int32())))
	case bson.TypeInt64:
		sb.WriteString(strconv.FormatInt(v.Int64(), 10))
	case bson.TypeDecimal128:
		sb.WriteString(v.Decimal128().String())
	case bson.TypeBool:
		sb.WriteString(strconv.FormatBool(v.Bool()))
	case bson.TypeDate:
		fmt.Fprintf(sb, "new Date(%d)", int64(v.Date()))
	case bson.TypeTimestamp:
		fmt.Fprintf(sb, "Timestamp(%d, %d)", v.Timestamp().Seconds(), v.Timestamp().Increment())
	case bson.TypeObjectID:
		fmt.Fprintf(sb, "ObjectId('%s')", v.ObjectID())
	case bson.TypeNull:
		sb.WriteString("null")
	case bson.TypeUndefined:
		sb.WriteString("undefined")
	case bson.TypeMinKey:
		sb.WriteString("MinKey")
	case bson.TypeMaxKey:
		sb.WriteString("MaxKey")
	case bson.TypeRegex:
		r := v.Regex()
		fmt.Fprintf(sb, "/%s/%s", r.Pattern, r.Options)
	case bson.TypeBinary:
		st, d := v.Binary()
		if u, ok := v.UUID(); ok {
			fmt.Fprintf(sb, "UUID(\"%s\")", u)
			return
		}
		fmt.Fprintf(sb, "BinData(%d, %s)", st, strings.ToUpper(fmt.Sprintf("%x", d)))
	case bson.TypeCode:
		sb.WriteString(v.Str())
	case bson.TypeCodeWScope:
		fmt.Fprintf(sb, "CodeWScope( %s, %s)", v.Str(), ToJSON(v.Scope().Value()))
	case bson.TypeDBPointer:
		ns, id := v.DBPointer()
		fmt.Fprintf(sb, "DBRef('%s', %s)", ns, id)
	}
}

func writeJSONContainer(sb *strings.Builder, v bson.Value) {
	open, end := "{", "}"
	if v.Type == bson.TypeArray {
		open, end = "[", "]"
	}
	sb.WriteString(open)
	n := 0
	for k, e := range v.Doc().Elems() {
		if n > 0 {
			sb.WriteByte(',')
		}
		sb.WriteByte(' ')
		if v.Type == bson.TypeDocument {
			sb.WriteString(k)
			sb.WriteString(": ")
		}
		writeJSON(sb, e)
		n++
	}
	if n > 0 {
		sb.WriteByte(' ')
	}
	sb.WriteString(end)
}

func escapeJSON(s string) string {
	if !strings.ContainsAny(s, "\"\\\n\r\t\b\f") {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

func jsonDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan.0"
	case math.IsInf(f, 1):
		return "inf.0"
	case math.IsInf(f, -1):
		return "-inf.0"
	}
	s := strconv.FormatFloat(f, 'g', 16, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}
