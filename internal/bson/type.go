package bson

import "fmt"

// Type is a BSON type number as it stands in a document. The zero Type is not a
// BSON type; it marks a missing value.
type Type byte

// The BSON types.
const (
	TypeMissing     Type = 0x00
	TypeDouble      Type = 0x01
	TypeString      Type = 0x02
	TypeDocument    Type = 0x03
	TypeArray       Type = 0x04
	TypeBinary      Type = 0x05
	TypeUndefined   Type = 0x06
	TypeObjectID    Type = 0x07
	TypeBool        Type = 0x08
	TypeDate        Type = 0x09
	TypeNull        Type = 0x0A
	TypeRegex       Type = 0x0B
	TypeDBPointer   Type = 0x0C
	TypeCode        Type = 0x0D
	TypeSymbol      Type = 0x0E
	TypeCodeWScope  Type = 0x0F
	TypeInt32       Type = 0x10
	TypeTimestamp   Type = 0x11
	TypeInt64       Type = 0x12
	TypeDecimal128  Type = 0x13
	TypeMaxKey      Type = 0x7F
	TypeMinKey      Type = 0xFF
	BinaryGeneric        = 0x00
	BinaryFunction       = 0x01
	BinaryOld            = 0x02
	BinaryUUIDOld        = 0x03
	BinaryUUID           = 0x04
	BinaryMD5            = 0x05
	BinaryEncrypted      = 0x06
	BinaryColumn         = 0x07
	BinarySensitive      = 0x08
	BinaryVector         = 0x09
	BinaryUserMin        = 0x80
)

// typeNames are MongoDB's aliases, as `$type` takes and returns them.
var typeNames = map[Type]string{
	TypeMissing: "missing", TypeDouble: "double", TypeString: "string", TypeDocument: "object", TypeArray: "array",
	TypeBinary: "binData", TypeUndefined: "undefined", TypeObjectID: "objectId", TypeBool: "bool",
	TypeDate: "date", TypeNull: "null", TypeRegex: "regex", TypeDBPointer: "dbPointer",
	TypeCode: "javascript", TypeSymbol: "symbol", TypeCodeWScope: "javascriptWithScope",
	TypeInt32: "int", TypeTimestamp: "timestamp", TypeInt64: "long", TypeDecimal128: "decimal",
	TypeMaxKey: "maxKey", TypeMinKey: "minKey",
}

// String returns MongoDB's alias of t: "double", "objectId", "missing" …
func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("invalid(%d)", byte(t))
}

// TypeByAlias returns the type that MongoDB calls name, without the group "number".
func TypeByAlias(name string) (Type, bool) {
	for t, n := range typeNames {
		if n == name && t != TypeMissing {
			return t, true
		}
	}
	return TypeMissing, false
}

// Valid reports whether t is a BSON type.
func (t Type) Valid() bool {
	return (t >= TypeDouble && t <= TypeDecimal128) || t == TypeMaxKey || t == TypeMinKey
}

// IsNumber reports whether t is double, int, long or decimal.
func (t Type) IsNumber() bool {
	return t == TypeDouble || t == TypeInt32 || t == TypeInt64 || t == TypeDecimal128
}

// canonicalOrder is the place of each type in MongoDB's order across types.
// Missing sorts with undefined, below null.
var canonicalOrder = [256]int8{
	TypeMinKey: -1, TypeMissing: 0, TypeUndefined: 0, TypeNull: 5,
	TypeDouble: 10, TypeInt32: 10, TypeInt64: 10, TypeDecimal128: 10,
	TypeString: 15, TypeSymbol: 15, TypeDocument: 20, TypeArray: 25, TypeBinary: 30,
	TypeObjectID: 35, TypeBool: 40, TypeDate: 45, TypeTimestamp: 47, TypeRegex: 50,
	TypeDBPointer: 55, TypeCode: 60, TypeCodeWScope: 65, TypeMaxKey: 127,
}

// CanonicalOrder returns the place of t in MongoDB's order across types: types with
// the same place (the numbers; string and symbol) are compared by value.
func (t Type) CanonicalOrder() int { return int(canonicalOrder[t]) }
