package expr

import (
	"fmt"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// ValueText writes a computed value as MongoDB's run-time errors do: [1, "a"], {a: 2.5}.
// It differs from ToJSON, which writes what the user's command said.
func ValueText(v bson.Value) string {
	switch v.Type {
	case bson.TypeMissing:
		return "MISSING"
	case bson.TypeString:
		return `"` + v.Str() + `"`
	case bson.TypeSymbol:
		return `Symbol("` + v.Str() + `")`
	case bson.TypeDouble:
		return FormatG(v.Double())
	case bson.TypeDate:
		s, err := isoDate(v.Date())
		if err != nil {
			return fmt.Sprint(int64(v.Date()))
		}
		return s
	case bson.TypeObjectID:
		return v.ObjectID().String()
	case bson.TypeBinary:
		st, d := v.Binary()
		return fmt.Sprintf("BinData(%d, \"%X\")", st, d)
	case bson.TypeCode:
		return `Code("` + v.Str() + `")`
	case bson.TypeCodeWScope:
		return `CodeWScope("` + v.Str() + `", ` + ToJSON(v.Scope().Value()) + ")"
	case bson.TypeDocument, bson.TypeArray:
		return containerText(v)
	}
	return ToJSON(v)
}

func containerText(v bson.Value) string {
	var sb strings.Builder
	open, end := byte('{'), byte('}')
	if v.Type == bson.TypeArray {
		open, end = '[', ']'
	}
	sb.WriteByte(open)
	n := 0
	for k, e := range v.Doc().Elems() {
		if n > 0 {
			sb.WriteString(", ")
		}
		if v.Type == bson.TypeDocument {
			sb.WriteString(k + ": ")
		}
		sb.WriteString(ValueText(e))
		n++
	}
	sb.WriteByte(end)
	return sb.String()
}
