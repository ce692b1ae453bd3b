package match

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// integerArg reads an integer that MongoDB insists on; elem is "name: value" for messages.
func integerArg(v bson.Value, elem string) (int64, error) {
	switch v.Type {
	case bson.TypeInt32, bson.TypeInt64:
		n, _ := v.AsInt64()
		return n, nil
	case bson.TypeDouble:
		f := v.Double()
		if math.IsNaN(f) {
			return 0, failedToParse("Expected an integer, but found NaN in: %s", elem)
		}
		if n, ok := v.AsInt64(); ok {
			return n, nil
		}
		if f >= 1<<63 || f < -(1<<63) {
			return 0, failedToParse("Cannot represent as a 64-bit integer: %s", elem)
		}
		return 0, failedToParse("Expected an integer: %s", elem)
	case bson.TypeDecimal128:
		if n, ok := v.AsInt64(); ok {
			return n, nil
		}
		return 0, failedToParse("Cannot represent as a 64-bit integer: %s", elem)
	}
	return 0, failedToParse("Expected a number in: %s", elem)
}

func nonNegativeArg(v bson.Value, elem string) (int64, error) {
	n, err := integerArg(v, elem)
	if err == nil && n < 0 {
		err = failedToParse("Expected a positive number in: %s", elem)
	}
	return n, err
}

func parseSize(_ *parser, name string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
	n, err := nonNegativeArg(arg, name+": "+arg.String())
	if err == nil && n > math.MaxInt32 {
		err = failedToParse("Cannot represent in an int: %s: %s", name, arg)
	}
	if err != nil {
		return nil, badValue("Failed to parse $size. %s", message(err))
	}
	return &Size{path, n}, nil
}

func parseMod(_ *parser, _ string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
	if arg.Type != bson.TypeArray {
		return nil, badValue("malformed mod, needs to be an array")
	}
	vs := slices.Collect(bson.Raw(arg.Data).Values())
	switch {
	case len(vs) < 1:
		return nil, badValue("malformed mod, not enough elements")
	case !vs[0].IsNumber():
		return nil, badValue("malformed mod, divisor not a number")
	case len(vs) < 2:
		return nil, badValue("malformed mod, not enough elements")
	case !vs[1].IsNumber():
		return nil, badValue("malformed mod, remainder not a number")
	case len(vs) > 2:
		return nil, badValue("malformed mod, too many elements")
	}
	div, msg := coerceLong(vs[0])
	if msg != "" {
		return nil, badValue("malformed mod, divisor value is invalid :: caused by :: %s", msg)
	}
	rem, msg := coerceLong(vs[1])
	if msg != "" {
		return nil, badValue("malformed mod, remainder value is invalid :: caused by :: %s", msg)
	}
	if div == 0 {
		return nil, badValue("divisor cannot be 0")
	}
	return &Mod{path, div, rem}, nil
}

// coerceLong cuts a number to an integer, or says why it cannot.
func coerceLong(v bson.Value) (int64, string) {
	n, ok, finite := truncate(v)
	switch {
	case !finite:
		return 0, "Unable to coerce NaN/Inf to integral type"
	case !ok:
		return 0, "Out of bounds coercing to integral value"
	}
	return n, ""
}

// truncate returns a number without its fraction, if that fits a long.
func truncate(v bson.Value) (n int64, ok, finite bool) {
	switch v.Type {
	case bson.TypeInt32, bson.TypeInt64:
		n, _ = v.AsInt64()
		return n, true, true
	case bson.TypeDouble:
		f := v.Double()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return 0, false, false
		}
		f = math.Trunc(f)
		if f < -(1<<63) || f >= 1<<63 {
			return 0, false, true
		}
		return int64(f), true, true
	case bson.TypeDecimal128:
		d := v.Decimal128()
		if d.IsNaN() || d.IsInf() {
			return 0, false, false
		}
		n, ok := truncateDecimal(d)
		return n, ok, true
	}
	return 0, false, false
}

func parseType(_ *parser, _ string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
	n := &TypeOp{Path: path}
	if arg.Type != bson.TypeArray {
		return n, n.Types.add(arg)
	}
	for v := range bson.Raw(arg.Data).Values() {
		if err := n.Types.add(v); err != nil {
			return nil, err
		}
	}
	if len(n.Types.Types) == 0 && !n.Types.AllNumbers {
		return nil, failedToParse("%s must match at least one type", path)
	}
	return n, nil
}

// add puts a type alias or number into the set.
func (s *TypeSet) add(v bson.Value) error {
	if v.Type == bson.TypeString {
		switch name := v.Str(); name {
		case "number":
			s.AllNumbers = true
			return nil
		case "missing":
			return badValue("'missing' is not a legal type name. To query for non-existence of a field, use {$exists:false}.")
		default:
			t, ok := bson.TypeByAlias(name)
			if !ok {
				return badValue("Unknown type name alias: %s", name)
			}
			s.insert(t)
			return nil
		}
	}
	if !v.IsNumber() {
		return typeMismatch("type must be represented as a number or a string")
	}
	n, ok := v.AsInt64()
	f, _ := v.AsFloat64()
	if ok && n == 0 {
		return badValue("Invalid numerical type code: %s. Instead use {$exists:false}.", shortDouble(f))
	}
	t := bson.Type(n)
	switch {
	case ok && n == -1:
		t = bson.TypeMinKey
	case !ok || n < 0 || n > 127 || !t.Valid():
		return badValue("Invalid numerical type code: %s", shortDouble(f))
	}
	s.insert(t)
	return nil
}

func (s *TypeSet) insert(t bson.Type) {
	if !slices.Contains(s.Types, t) {
		s.Types = append(s.Types, t)
	}
}

// shortDouble prints six digits, as C++ streams do.
func shortDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strconv.FormatFloat(f, 'g', 6, 64)[:1], "+") + "inf"
	}
	return strconv.FormatFloat(f, 'g', 6, 64)
}

func parseBits(path *Path, op BitOp, arg bson.Value) (Node, error) {
	n := &BitTest{Path: path, Test: op}
	elem := op.String() + ": " + arg.String()
	switch {
	case arg.Type == bson.TypeArray:
		if err := n.positions(bson.Raw(arg.Data)); err != nil {
			return nil, err
		}
	case arg.IsNumber():
		mask, err := nonNegativeArg(arg, elem)
		if err != nil {
			return nil, err
		}
		for i := range uint32(63) {
			if mask>>i&1 != 0 {
				n.Positions = append(n.Positions, i)
			}
		}
	case arg.Type == bson.TypeBinary:
		_, data := arg.Binary()
		for i, b := range data {
			for j := range 8 {
				if b>>j&1 != 0 {
					n.Positions = append(n.Positions, uint32(i*8+j))
				}
			}
		}
	default:
		return nil, badValue("%s takes an Array, a number, or a BinData but received: %s", path, elem)
	}
	n.prepare()
	return n, nil
}

func (n *BitTest) positions(a bson.Raw) error {
	for key, v := range a.Elems() {
		elem := key + ": " + v.String()
		if !v.IsNumber() {
			return badValue("bit positions must be an integer but got: %s", elem)
		}
		pos, err := nonNegativeArg(v, elem)
		if err == nil && pos > math.MaxInt32 {
			err = badValue("bit positions cannot be represented as a 32-bit signed integer: %s", elem)
		}
		if err != nil {
			return badValue("Failed to parse bit position. %s", message(err))
		}
		n.Positions = append(n.Positions, uint32(pos))
	}
	return nil
}

func (n *BitTest) prepare() {
	slices.Sort(n.Positions)
	n.Positions = slices.Compact(n.Positions)
	for _, p := range n.Positions {
		if p < 64 {
			n.mask |= 1 << p
		} else {
			n.high = true
		}
	}
}
