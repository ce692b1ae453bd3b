package expr

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cairndb/cairn/internal/bson"
)

func parseNumberError(s, why string) error {
	return conversionError("Failed to parse number '%s' "+noOnError+": %s", s, why)
}

// parseInteger reads an optional sign and decimal digits, nothing else.
func parseInteger(s string, t bson.Type) (int64, error) {
	digits := strings.TrimPrefix(s, "+")
	if digits == s {
		digits = strings.TrimPrefix(s, "-")
	}
	if digits == "" {
		return 0, parseNumberError(s, "No digits")
	}
	for i := 0; i < len(digits); i++ {
		if c := digits[i]; c < '0' || c > '9' {
			return 0, parseNumberError(s, "Bad digit \""+strings.ToValidUTF8(digits[i:i+1], "\uFFFD")+"\" while parsing "+s)
		}
	}
	size := 64
	if t == bson.TypeInt32 {
		size = 32
	}
	i, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 10, size)
	if err != nil {
		return 0, parseNumberError(s, "Overflow")
	}
	return i, nil
}

func parseDouble(s string) (float64, error) {
	if s == "" {
		return 0, parseNumberError(s, "Empty string")
	}
	if strings.ContainsRune(" \t\n\v\f\r", rune(s[0])) {
		return 0, parseNumberError(s, "Leading whitespace")
	}
	if strings.ContainsAny(s, "_xXpP") { // Go's own extensions
		return 0, parseNumberError(s, "Did not consume whole number.")
	}
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err == nil:
		return f, nil
	case math.IsInf(f, 0):
		return 0, parseNumberError(s, "Out of range")
	}
	return 0, parseNumberError(s, "Did not consume whole number.")
}

// binaryToString writes binary data in the format that $convert asks for.
func binaryToString(env *Env, v bson.Value, format string) (bson.Value, error) {
	subtype, data := v.Binary()
	if format == "auto" {
		format = "base64"
		if _, ok := v.UUID(); ok {
			format = "uuid"
		}
	}
	switch format {
	case "base64":
		return env.Str(base64.StdEncoding.EncodeToString(data)), nil
	case "base64url":
		return env.Str(base64.RawURLEncoding.EncodeToString(data)), nil
	case "hex":
		return env.Str(strings.ToUpper(hex.EncodeToString(data))), nil
	case "utf8":
		if !utf8.Valid(data) {
			return missing, conversionError("BinData does not represent a valid UTF-8 string in $convert with no onError value: %s", ValueText(v))
		}
		return env.Str(string(data)), nil
	case "uuid":
		u, ok := v.UUID()
		if !ok {
			return missing, conversionError("Only the UUID subtype (%d) is allowed with the UUID format, found: %d", bson.BinaryUUID, subtype)
		}
		return env.Str(u.String()), nil
	}
	return missing, conversionError("Format must be speficied when converting from binData to string")
}

func toBinaryValue(env *Env, v bson.Value, t target) (bson.Value, error) {
	subtype := max(t.subtype, 0)
	switch v.Type {
	case bson.TypeBinary:
		if st, _ := v.Binary(); int(st) != subtype {
			return missing, conversionError("Conversions between different BinData subtypes are not supported " + noOnError)
		}
		return v, nil
	case bson.TypeString:
	default:
		return missing, unsupported(v, bson.TypeBinary)
	}
	s := v.Str()
	var data []byte
	var err error
	switch t.format {
	case "base64":
		data, err = base64.StdEncoding.DecodeString(s)
	case "base64url":
		data, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	case "hex":
		data, err = hex.DecodeString(s)
	case "utf8":
		data = []byte(s)
	case "uuid", "auto":
		if subtype != bson.BinaryUUID {
			return missing, conversionError("Only the UUID subtype (%d) is allowed with the UUID format, found: %d", bson.BinaryUUID, subtype)
		}
		if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return missing, conversionError("Input is not a valid UUID string: %s", s)
		}
		data, err = hex.DecodeString(strings.ReplaceAll(s, "-", ""))
		if err != nil || len(data) != 16 {
			return missing, conversionError("Input is not a valid UUID string: %s", s)
		}
	default:
		return missing, conversionError("Format must be speficied when converting from string to binData")
	}
	if err != nil {
		return missing, conversionError("Input is not a valid %s string: %s", t.format, s)
	}
	return env.Binary(byte(subtype), data), nil
}
