package expr

import (
	"fmt"
	"math"
	"strconv"

	"github.com/cockroachdb/apd/v3"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// convert is $convert and its shorthands $toInt, $toString and so on.
type convert struct {
	name            string // the operator as written
	input, to       Expr
	format          Expr
	onError, onNull Expr
	fixed           target // of a shorthand
}

// target is the type to convert to.
type target struct {
	typ     bson.Type
	subtype int // of binary data, -1 not given
	format  string
}

var shorthands = map[string]target{
	"$toBool": {typ: bson.TypeBool}, "$toDate": {typ: bson.TypeDate}, "$toDecimal": {typ: bson.TypeDecimal128},
	"$toDouble": {typ: bson.TypeDouble}, "$toInt": {typ: bson.TypeInt32}, "$toLong": {typ: bson.TypeInt64},
	"$toObjectId": {typ: bson.TypeObjectID}, "$toString": {typ: bson.TypeString, format: "auto"},
	"$toUUID": {typ: bson.TypeBinary, subtype: bson.BinaryUUID, format: "uuid"},
}

func parseShorthand(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	args, err := parseArgs(op, operand, pc)
	if err != nil {
		return nil, err
	}
	return &convert{name: op.Name, input: args[0], fixed: shorthands[op.Name]}, nil
}

func parseConvert(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
	if operand.Type != bson.TypeDocument {
		return nil, mongoerr.New(mongoerr.FailedToParse, "$convert expects an object of named arguments but found: %s", operand.Type)
	}
	c := &convert{name: op.Name}
	for k, v := range operand.Doc().Elems() {
		e, err := Parse(v, pc)
		if err != nil {
			return nil, err
		}
		switch k {
		case "input":
			c.input = e
		case "to":
			c.to = e
		case "format":
			c.format = e
		case "onError":
			c.onError = e
		case "onNull":
			c.onNull = e
		default:
			return nil, mongoerr.New(mongoerr.FailedToParse, "$convert found an unknown argument: %s", k)
		}
	}
	if c.input == nil {
		return nil, mongoerr.New(mongoerr.FailedToParse, "Missing 'input' parameter to $convert")
	}
	if c.to == nil {
		return nil, mongoerr.New(mongoerr.FailedToParse, "Missing 'to' parameter to $convert")
	}
	return c, nil
}

func (c *convert) Eval(env *Env) (bson.Value, error) {
	in, err := c.input.Eval(env)
	if err != nil {
		return missing, err
	}
	t := c.fixed
	if c.to != nil {
		var done bool
		if t, done, err = c.target(env, in); err != nil || done {
			return null, err
		}
	}
	if in.IsNullish() {
		if c.onNull != nil {
			return c.onNull.Eval(env)
		}
		return null, nil
	}
	v, err := convertTo(env, in, t)
	if err != nil && c.onError != nil && mongoerr.Is(err, mongoerr.ConversionFailure) {
		return c.onError.Eval(env)
	}
	return v, err
}

// target evaluates 'to' and 'format'; done: the result is null.
func (c *convert) target(env *Env, in bson.Value) (t target, done bool, err error) {
	to, err := c.to.Eval(env)
	if err != nil {
		return t, false, err
	}
	t.subtype = -1
	if to.Type == bson.TypeDocument {
		if st := to.Doc().Get("subtype"); !st.IsMissing() {
			n, ok := asInt32(st)
			if !ok || n < 0 || n > 255 {
				return t, false, mongoerr.New(4341107, "In $convert, numeric value for 'subtype' does not correspond to a BinData type: %s", ValueText(st))
			}
			t.subtype = n
		}
		to = to.Doc().Get("type")
	}
	if to.IsNullish() {
		return t, !in.IsNullish() || c.onNull == nil, nil
	}
	if t.typ, err = convertType(to); err != nil {
		return t, false, err
	}
	if c.format != nil {
		f, err := c.format.Eval(env)
		if err != nil {
			return t, false, err
		}
		if f.IsNullish() {
			return t, true, nil
		}
		if f.Type != bson.TypeString {
			return t, false, mongoerr.New(4341114, "$convert requires that 'format' be a string, found: %s with value %s", f.Type, ValueText(f))
		}
		if t.format = f.Str(); indexOf(t.format, "auto", "base64", "base64url", "hex", "utf8", "uuid") < 0 {
			return t, false, mongoerr.New(4341115, "Invalid 'format' argument for $convert: %s", t.format)
		}
	}
	return t, false, nil
}

func convertType(to bson.Value) (bson.Type, error) {
	switch {
	case to.Type == bson.TypeString:
		t, ok := bson.TypeByAlias(to.Str())
		if !ok {
			return 0, mongoerr.New(mongoerr.BadValue, "Unknown type name: %s", to.Str())
		}
		return t, nil
	case to.IsNumber():
		n, ok := asInt32(to)
		if !ok {
			return 0, mongoerr.New(mongoerr.FailedToParse, "In $convert, numeric 'to' argument is not an integer")
		}
		if n == -1 {
			return bson.TypeMinKey, nil
		}
		if t := bson.Type(n); n > 0 && n < 256 && t.Valid() && t != bson.TypeMinKey {
			return t, nil
		}
		return 0, mongoerr.New(mongoerr.FailedToParse, "In $convert, numeric value for 'to' does not correspond to a BSON type: %d", n)
	}
	return 0, mongoerr.New(mongoerr.FailedToParse, "$convert's 'to' argument must be a string or number, but is %s", to.Type)
}

func (c *convert) parts() []*Expr {
	return []*Expr{&c.input, &c.to, &c.format, &c.onError, &c.onNull}
}

func (c *convert) AddDeps(d *Deps) {
	for _, p := range c.parts() {
		if *p != nil {
			(*p).AddDeps(d)
		}
	}
}

// Append shows shorthands as the $convert that they stand for, as the server does.
func (c *convert) Append(b *bson.Builder, key string) {
	b.Doc(key)
	b.Doc("$convert")
	c.input.Append(b, "input")
	if c.to != nil {
		c.to.Append(b, "to")
	} else {
		constant{bson.V(c.fixed.typ.String())}.Append(b, "to")
	}
	for i, name := range []string{"format", "onError", "onNull"} {
		if e := *c.parts()[2+i]; e != nil {
			e.Append(b, name)
		}
	}
	b.End()
	b.End()
}

func (c *convert) Optimize() (Expr, error) {
	n := *c
	allConst, err := optimizeParts(n.parts())
	if err != nil {
		return nil, err
	}
	if allConst {
		return fold(&n)
	}
	return &n, nil
}

const noOnError = "in $convert with no onError value"

func conversionError(format string, a ...any) error {
	return mongoerr.New(mongoerr.ConversionFailure, "%s", fmt.Sprintf(format, a...))
}

func unsupported(v bson.Value, t bson.Type) error {
	return conversionError("Unsupported conversion from %s to %s "+noOnError, v.Type, t)
}

// convertTo converts a value that is not null.
func convertTo(env *Env, v bson.Value, t target) (bson.Value, error) {
	switch t.typ {
	case bson.TypeBool:
		return boolValue(v.Truthy()), nil
	case bson.TypeInt32, bson.TypeInt64:
		return toInteger(env, v, t.typ)
	case bson.TypeDouble:
		return toDoubleValue(env, v)
	case bson.TypeDecimal128:
		return toDecimalValue(env, v)
	case bson.TypeString:
		return toStringValue(env, v, t)
	case bson.TypeObjectID:
		return toObjectIDValue(env, v)
	case bson.TypeDate:
		return toDateValue(env, v)
	case bson.TypeBinary:
		return toBinaryValue(env, v, t)
	}
	return missing, unsupported(v, t.typ)
}

func toInteger(env *Env, v bson.Value, t bson.Type) (bson.Value, error) {
	var i int64
	switch v.Type {
	case bson.TypeInt32:
		i = int64(v.Int32())
	case bson.TypeInt64:
		if i = v.Int64(); t == bson.TypeInt32 && i != int64(int32(i)) {
			return missing, conversionError("Conversion would overflow target type " + noOnError + ": ")
		}
	case bson.TypeBool:
		if v.Bool() {
			i = 1
		}
	case bson.TypeDate:
		if t == bson.TypeInt32 {
			return missing, unsupported(v, t)
		}
		i = int64(v.Date())
	case bson.TypeDouble, bson.TypeDecimal128:
		var err error
		if i, err = truncate(v, t); err != nil {
			return missing, err
		}
	case bson.TypeString:
		var err error
		if i, err = parseInteger(v.Str(), t); err != nil {
			return missing, err
		}
	default:
		return missing, unsupported(v, t)
	}
	if t == bson.TypeInt32 {
		return env.Int32(int32(i)), nil
	}
	return env.Int64(i), nil
}

// truncate cuts a double or decimal to an integer of type t (long for dates).
func truncate(v bson.Value, t bson.Type) (int64, error) {
	if v.Type == bson.TypeDouble {
		f := v.Double()
		if err := checkFinite(math.IsNaN(f), math.IsInf(f, 0)); err != nil {
			return 0, err
		}
		lo, hi := -float64(1<<63), float64(1<<63)
		if t == bson.TypeInt32 {
			lo, hi = math.MinInt32, math.MaxInt32+1
			if f > math.MaxInt32 || f < math.MinInt32 {
				return 0, conversionError("Conversion would overflow target type "+noOnError+": %s", FormatG(f))
			}
		}
		if f >= hi || f < lo {
			return 0, conversionError("Conversion would overflow target type "+noOnError+": %s", FormatG(f))
		}
		return int64(f), nil
	}
	d := v.Decimal128()
	if err := checkFinite(d.IsNaN(), d.IsInf()); err != nil {
		return 0, err
	}
	i, ok := roundDecimal(d, apd.RoundDown).Int64()
	if !ok || t == bson.TypeInt32 && i != int64(int32(i)) {
		return 0, conversionError("Conversion would overflow target type "+noOnError+": %s", d)
	}
	return i, nil
}

func checkFinite(nan, inf bool) error {
	if nan {
		return conversionError("Attempt to convert NaN value to integer type " + noOnError)
	}
	if inf {
		return conversionError("Attempt to convert infinity value to integer type " + noOnError)
	}
	return nil
}

func toDoubleValue(env *Env, v bson.Value) (bson.Value, error) {
	switch v.Type {
	case bson.TypeDouble, bson.TypeInt32, bson.TypeInt64:
		return env.Double(toDouble(v)), nil
	case bson.TypeDecimal128:
		d := v.Decimal128()
		f := d.Float64()
		if math.IsInf(f, 0) && !d.IsInf() {
			return missing, conversionError("Conversion would overflow target type "+noOnError+": %s", d)
		}
		return env.Double(f), nil
	case bson.TypeBool:
		if v.Bool() {
			return env.Double(1), nil
		}
		return env.Double(0), nil
	case bson.TypeDate:
		return env.Double(float64(v.Date())), nil
	case bson.TypeString:
		f, err := parseDouble(v.Str())
		if err != nil {
			return missing, err
		}
		return env.Double(f), nil
	}
	return missing, unsupported(v, bson.TypeDouble)
}

func toDecimalValue(env *Env, v bson.Value) (bson.Value, error) {
	switch v.Type {
	case bson.TypeDouble, bson.TypeInt32, bson.TypeInt64, bson.TypeDecimal128:
		return env.Decimal(ToDecimal(v)), nil
	case bson.TypeBool:
		if v.Bool() {
			return env.Decimal(bson.DecimalFromInt64(1)), nil
		}
		return env.Decimal(bson.DecimalFromInt64(0)), nil
	case bson.TypeDate:
		return env.Decimal(bson.DecimalFromInt64(int64(v.Date()))), nil
	case bson.TypeString:
		s := v.Str()
		if s == "" {
			return missing, parseNumberError(s, "Empty string")
		}
		d, err := bson.ParseDecimal128(s)
		if err != nil {
			return missing, parseNumberError(s, "Failed to parse string to decimal")
		}
		return env.Decimal(d), nil
	}
	return missing, unsupported(v, bson.TypeDecimal128)
}

func toStringValue(env *Env, v bson.Value, t target) (bson.Value, error) {
	switch v.Type {
	case bson.TypeString:
		return v, nil
	case bson.TypeDouble:
		return env.Str(doubleText(v.Double())), nil
	case bson.TypeInt32:
		return env.Str(strconv.Itoa(int(v.Int32()))), nil
	case bson.TypeInt64:
		return env.Str(strconv.FormatInt(v.Int64(), 10)), nil
	case bson.TypeDecimal128:
		return env.Str(v.Decimal128().String()), nil
	case bson.TypeBool:
		return env.Str(strconv.FormatBool(v.Bool())), nil
	case bson.TypeObjectID:
		return env.Str(v.ObjectID().String()), nil
	case bson.TypeDate:
		s, err := isoDate(v.Date())
		if err != nil {
			return missing, err
		}
		return env.Str(s), nil
	case bson.TypeBinary:
		return binaryToString(env, v, t.format)
	}
	return missing, unsupported(v, bson.TypeString)
}

// doubleText is FormatG with the names that JSON readers know.
func doubleText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return FormatG(f)
}

func toObjectIDValue(env *Env, v bson.Value) (bson.Value, error) {
	switch v.Type {
	case bson.TypeObjectID:
		return v, nil
	case bson.TypeString:
		s := v.Str()
		if len(s) != 24 {
			return missing, conversionError("Failed to parse objectId '%s' "+noOnError+": Invalid string length for parsing to OID, expected 24 but found %d", s, len(s))
		}
		var id bson.ObjectID
		for i := 0; i < 24; i++ {
			h, ok := hexDigit(s[i])
			if !ok {
				return missing, conversionError("Failed to parse objectId '%s' "+noOnError+": Invalid character found in hex string: %c", s, s[i])
			}
			id[i/2] = id[i/2]<<4 | h
		}
		return env.ObjectID(id), nil
	}
	return missing, unsupported(v, bson.TypeObjectID)
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func toDateValue(env *Env, v bson.Value) (bson.Value, error) {
	switch v.Type {
	case bson.TypeDate:
		return v, nil
	case bson.TypeInt64:
		return env.Date(bson.DateTime(v.Int64())), nil
	case bson.TypeDouble, bson.TypeDecimal128:
		i, err := truncate(v, bson.TypeInt64)
		if err != nil {
			return missing, err
		}
		return env.Date(bson.DateTime(i)), nil
	case bson.TypeObjectID:
		return env.Date(objectIDDate(v)), nil
	case bson.TypeTimestamp:
		return env.Date(bson.DateTime(v.Timestamp().Seconds()) * 1000), nil
	case bson.TypeString:
		t, err := parseDate(v.Str(), "", nil)
		if err != nil {
			return missing, err
		}
		return env.Date(t), nil
	}
	return missing, unsupported(v, bson.TypeDate)
}
