package update

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/cockroachdb/apd/v3"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
)

// set is $set and, with onInsert, $setOnInsert.
type set struct {
	v        bson.Value
	onInsert bool
}

func parseSet(_ *parser, _ string, v bson.Value) (modifier, error) { return set{v, false}, nil }

func parseSetOnInsert(_ *parser, _ string, v bson.Value) (modifier, error) { return set{v, true}, nil }

func (m set) creates(r *run) bool { return r.in.Insert || !m.onInsert }

func (m set) apply(r *run, v bson.Value) (bson.Value, outcome, error) {
	if m.onInsert && !r.in.Insert {
		return v, keep, nil
	}
	return replaceWith(v, m.v)
}

// replaceWith puts next unless it is exactly v.
func replaceWith(v, next bson.Value) (bson.Value, outcome, error) {
	if v.Type == next.Type && bytes.Equal(v.Data, next.Data) {
		return v, keep, nil
	}
	return next, put, nil
}

type unset struct{}

func parseUnset(*parser, string, bson.Value) (modifier, error) { return unset{}, nil }

func (unset) creates(*run) bool { return false }

func (unset) apply(_ *run, v bson.Value) (bson.Value, outcome, error) { return v, drop, nil }

// extreme is $min and $max.
type extreme struct {
	coll *collate.Collator
	v    bson.Value
	sign int // of Compare(v, present) for which v wins
}

func parseMin(p *parser, _ string, v bson.Value) (modifier, error) {
	return extreme{p.opts.Match.Collation, v, -1}, nil
}

func parseMax(p *parser, _ string, v bson.Value) (modifier, error) {
	return extreme{p.opts.Match.Collation, v, 1}, nil
}

func (extreme) creates(*run) bool { return true }

func (m extreme) apply(_ *run, v bson.Value) (bson.Value, outcome, error) {
	if v.IsMissing() || m.coll.Compare(m.v, v)*m.sign > 0 {
		return m.v, put, nil
	}
	return v, keep, nil
}

// arithmetic is $inc and $mul.
type arithmetic struct {
	v   bson.Value
	mul bool
}

func (m arithmetic) name() string {
	if m.mul {
		return "$mul"
	}
	return "$inc"
}

func parseInc(_ *parser, path string, v bson.Value) (modifier, error) {
	if !v.IsNumber() {
		return nil, typeMismatch("Cannot increment with non-numeric argument: {%s: %s}", path, v)
	}
	return arithmetic{v, false}, nil
}

func parseMul(_ *parser, path string, v bson.Value) (modifier, error) {
	if !v.IsNumber() {
		return nil, typeMismatch("Cannot multiply with non-numeric argument: {%s: %s}", path, v)
	}
	return arithmetic{v, true}, nil
}

func (arithmetic) creates(*run) bool { return true }

func (m arithmetic) apply(r *run, v bson.Value) (bson.Value, outcome, error) {
	next, what, ok := m.change(v)
	switch {
	case ok:
		return next, what, nil
	case !v.IsNumber():
		return v, keep, typeMismatch("Cannot apply %s to a value of non-numeric type. %s has the field '%s' of non-numeric type %s",
			m.name(), r.documentID(), r.lastName(), v.Type)
	}
	return v, keep, badValue("Failed to apply %s operations to current value (%s) for document %s", m.name(), debugNumber(v), r.documentID())
}

// change is apply without the words of its errors: ok is false if v is no number, or the result is none.
func (m arithmetic) change(v bson.Value) (next bson.Value, what outcome, ok bool) {
	switch {
	case v.IsMissing() && m.mul:
		return zeroOf(m.v.Type), put, true
	case v.IsMissing():
		return m.v, put, true
	case !v.IsNumber():
		return v, keep, false
	}
	if next, ok = calculate(v, m.v, m.mul); !ok {
		return v, keep, false
	}
	next, what, _ = replaceWith(v, next)
	return next, what, true
}

func zeroOf(t bson.Type) bson.Value {
	switch t {
	case bson.TypeInt32:
		return bson.V(int32(0))
	case bson.TypeInt64:
		return int64Value(0)
	case bson.TypeDecimal128:
		return bson.V(bson.DecimalZero)
	}
	return bson.V(0.0)
}

func debugNumber(v bson.Value) string {
	name := map[bson.Type]string{bson.TypeInt32: "NumberInt", bson.TypeInt64: "NumberLong", bson.TypeDouble: "NumberDouble", bson.TypeDecimal128: "NumberDecimal"}[v.Type]
	return "(" + name + ")" + v.String()
}

func int64Value(i int64) bson.Value {
	return bson.Value{Type: bson.TypeInt64, Data: binary.LittleEndian.AppendUint64(nil, uint64(i))}
}

func int32Value(i int32) bson.Value {
	return bson.Value{Type: bson.TypeInt32, Data: binary.LittleEndian.AppendUint32(nil, uint32(i))}
}

// calculate adds or multiplies: ints grow to longs, longs do not grow, doubles win over
// integers and decimals over all.
func calculate(a, b bson.Value, mul bool) (bson.Value, bool) {
	switch {
	case a.Type == bson.TypeDecimal128 || b.Type == bson.TypeDecimal128:
		return decimals(a, b, mul), true
	case a.Type == bson.TypeDouble || b.Type == bson.TypeDouble:
		x, _ := a.AsFloat64()
		y, _ := b.AsFloat64()
		if mul {
			x *= y
		} else {
			x += y
		}
		return bson.Value{Type: bson.TypeDouble, Data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(x))}, true
	}
	x, _ := a.AsInt64()
	y, _ := b.AsInt64()
	var z int64
	if mul {
		z = x * y
		if x != 0 && (z/x != y || (x == -1 && y == math.MinInt64)) {
			return bson.Value{}, false
		}
	} else {
		z = x + y
		if (z > x) != (y > 0) && y != 0 {
			return bson.Value{}, false
		}
	}
	if a.Type == bson.TypeInt32 && b.Type == bson.TypeInt32 && z == int64(int32(z)) {
		return int32Value(int32(z)), true
	}
	return int64Value(z), true
}

func decimals(a, b bson.Value, mul bool) bson.Value {
	ctx := apd.BaseContext.WithPrecision(34)
	ctx.Rounding = apd.RoundHalfEven
	ctx.Traps = 0
	var z apd.Decimal
	x, y := toDecimal(a).APD(), toDecimal(b).APD()
	var err error
	if mul {
		_, err = ctx.Mul(&z, x, y)
	} else {
		_, err = ctx.Add(&z, x, y)
	}
	if err != nil {
		return bson.V(bson.DecimalNaN)
	}
	return bson.V(bson.DecimalFromAPD(&z))
}

// toDecimal converts a number; doubles keep 15 digits.
func toDecimal(v bson.Value) bson.Decimal128 {
	switch v.Type {
	case bson.TypeDecimal128:
		return v.Decimal128()
	case bson.TypeDouble:
		f := v.Double()
		switch {
		case math.IsNaN(f):
			return bson.DecimalNaN
		case math.IsInf(f, 1):
			return bson.DecimalInf
		case math.IsInf(f, -1):
			return bson.DecimalNegInf
		case f == 0:
			return bson.DecimalZero
		}
		d, _ := bson.ParseDecimal128(strconv.FormatFloat(f, 'e', 14, 64))
		return d
	}
	i, _ := v.AsInt64()
	return bson.DecimalFromInt64(i)
}

// currentDate is $currentDate.
type currentDate struct{ timestamp bool }

func parseCurrentDate(_ *parser, _ string, v bson.Value) (modifier, error) {
	if v.Type == bson.TypeBool {
		return currentDate{}, nil
	}
	if v.Type != bson.TypeDocument {
		return nil, badValue("%s is not valid type for $currentDate. Please use a boolean ('true') or a $type expression ({$type: 'timestamp/date'}).", v.Type)
	}
	m := currentDate{}
	for k, t := range bson.Raw(v.Data).Elems() {
		if k != "$type" {
			return nil, badValue("Unrecognized $currentDate option: %s", k)
		}
		if t.Type != bson.TypeString || (t.Str() != "date" && t.Str() != "timestamp") {
			return nil, badValue("The '$type' string field is required to be 'date' or 'timestamp': {$currentDate: {field : {$type: 'date'}}}")
		}
		m.timestamp = t.Str() == "timestamp"
	}
	return m, nil
}

func (currentDate) creates(*run) bool { return true }

func (m currentDate) apply(r *run, v bson.Value) (bson.Value, outcome, error) {
	if m.timestamp {
		return replaceWith(v, bson.V(r.in.Timestamp))
	}
	return replaceWith(v, bson.V(r.in.Now))
}

// bit is $bit: a list of operations.
type bit struct{ ops []bitOp }

type bitOp struct {
	name string
	v    bson.Value
}

func parseBit(_ *parser, _ string, v bson.Value) (modifier, error) {
	if v.Type != bson.TypeDocument {
		return nil, badValue("The $bit modifier is not compatible with a %s. You must pass in an embedded document: {$bit: {field: {and/or/xor: #}}", v.Type)
	}
	m := bit{}
	for k, n := range bson.Raw(v.Data).Elems() {
		switch k {
		case "and", "or", "xor":
		default:
			return nil, badValue("The $bit modifier only supports 'and', 'or', and 'xor', not '%s' which is an unknown operator: {%s: %s}", k, k, n)
		}
		if n.Type != bson.TypeInt32 && n.Type != bson.TypeInt64 {
			return nil, badValue("The $bit modifier field must be an Integer(32/64 bit); a '%s' is not supported here: {%s: %s}", n.Type, k, n)
		}
		m.ops = append(m.ops, bitOp{k, n})
	}
	if len(m.ops) == 0 {
		return nil, badValue("You must pass in at least one bitwise operation. The format is: {$bit: {field: {and/or/xor: #}}")
	}
	return m, nil
}

func (bit) creates(*run) bool { return true }

func (m bit) apply(r *run, v bson.Value) (bson.Value, outcome, error) {
	if !v.IsMissing() && v.Type != bson.TypeInt32 && v.Type != bson.TypeInt64 {
		return v, keep, badValue("Cannot apply $bit to a value of non-integral type.%s has the field %s of non-integer type %s",
			r.documentID(), r.lastName(), v.Type)
	}
	x, _ := v.AsInt64()
	long := v.Type == bson.TypeInt64
	for _, op := range m.ops {
		y, _ := op.v.AsInt64()
		long = long || op.v.Type == bson.TypeInt64
		switch op.name {
		case "and":
			x &= y
		case "or":
			x |= y
		case "xor":
			x ^= y
		}
	}
	if long {
		return replaceWith(v, int64Value(x))
	}
	return replaceWith(v, int32Value(int32(x)))
}

// renameFrom removes the source of a $rename.
type renameFrom struct{}

func (renameFrom) creates(*run) bool { return false }

func (renameFrom) apply(_ *run, v bson.Value) (bson.Value, outcome, error) { return v, drop, nil }

// renameTo puts the source's value at the target.
type renameTo struct{ from, to []string }

func (m renameTo) creates(r *run) bool {
	src, _ := m.lookup(r.doc, m.from)
	return !src.IsMissing()
}

func (m renameTo) apply(r *run, v bson.Value) (bson.Value, outcome, error) {
	if src, _ := m.lookup(r.doc, m.from); !src.IsMissing() {
		return src, put, nil
	}
	return v, keep, nil
}

// check refuses arrays on the way to the source or, if there is one, to the target.
func (m renameTo) check(r *run) error {
	src, at := m.lookup(r.doc, m.from)
	if at != "" {
		return badValue("The source field cannot be an array element, '%s' in doc with _id: %s has an array field called '%s'",
			join(m.from), r.doc.Get("_id"), at)
	}
	if _, at := m.lookup(r.doc, m.to); at != "" && !src.IsMissing() {
		return badValue("The destination field cannot be an array element, '%s' in doc with _id: %s has an array field called '%s'",
			join(m.to), r.doc.Get("_id"), at)
	}
	return nil
}

// lookup follows a path through documents; array names the array in its way.
func (m renameTo) lookup(doc bson.Raw, parts []string) (v bson.Value, array string) {
	for i, part := range parts {
		v = doc.Get(part)
		if i == len(parts)-1 || v.IsMissing() {
			return v, ""
		}
		switch v.Type {
		case bson.TypeDocument:
			doc = bson.Raw(v.Data)
		case bson.TypeArray:
			return bson.Value{}, part
		default:
			return bson.Value{}, ""
		}
	}
	return v, ""
}
