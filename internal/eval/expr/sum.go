package expr

import (
	"math"
	"math/bits"

	"github.com/cockroachdb/apd/v3"

	"github.com/cairndb/cairn/internal/bson"
)

// Sum adds numbers as MongoDB's $sum, $add and $avg do: exactly over integers, with a
// compensated (double-double) sum as soon as doubles take part, decimals apart. The
// zero Sum is empty. Sums can be merged and saved.
type Sum struct {
	widest  bson.Type
	integer int64 // the sum while no double came and no overflow happened
	wide    bool  // hi, lo and special are in use instead of integer
	hi, lo  float64
	special float64 // the plain sum, right where the compensated one is NaN
	decimal apd.Decimal
	hasDec  bool
}

// Widest returns the widest type added so far, TypeMissing for none.
func (s *Sum) Widest() bson.Type { return s.widest }

// Add adds a number; anything else is passed over and reported as false.
func (s *Sum) Add(v bson.Value) bool {
	switch v.Type {
	case bson.TypeInt32:
		if s.widest == bson.TypeMissing {
			s.widest = bson.TypeInt32
		}
		s.addInt(int64(v.Int32()))
	case bson.TypeInt64:
		s.widest = widest(s.widest, bson.TypeInt64)
		s.addInt(v.Int64())
	case bson.TypeDouble:
		s.widest = widest(s.widest, bson.TypeDouble)
		s.spread()
		s.addDouble(v.Double())
	case bson.TypeDecimal128:
		s.widest = bson.TypeDecimal128
		s.addDecimal(v.Decimal128().APD())
	default:
		return false
	}
	return true
}

func (s *Sum) addInt(i int64) {
	if !s.wide {
		sum, carry := bits.Add64(uint64(s.integer), uint64(i), 0)
		_ = carry
		if r := int64(sum); (r > s.integer) == (i > 0) {
			s.integer = r
			return
		}
		s.spread()
	}
	s.addLong(i)
}

// spread moves the integer sum into the double-double one.
func (s *Sum) spread() {
	if s.wide {
		return
	}
	s.wide = true
	if s.integer != 0 {
		s.addLong(s.integer)
		s.integer = 0
	}
}

// addLong splits the integer so that both halves are exact doubles.
func (s *Sum) addLong(i int64) {
	high := i / (1 << 32) * (1 << 32)
	s.addDouble(float64(i - high))
	s.addDouble(float64(high))
}

func (s *Sum) addDouble(x float64) {
	s.special += x
	a := s.hi
	sum := a + x
	z := sum - a
	s.lo += (a - (sum - z)) + (x - z)
	s.hi = sum
}

func (s *Sum) addDecimal(d *apd.Decimal) {
	s.hasDec = true
	// No trap is set: the result of an invalid operation is NaN.
	_, _ = bson.DecimalContext.Add(&s.decimal, &s.decimal, d)
}

// Merge adds what o has gathered.
func (s *Sum) Merge(o *Sum) {
	if o.widest == bson.TypeMissing {
		return
	}
	s.widest = widest(s.widest, o.widest)
	if o.wide {
		s.spread()
		s.addDouble(o.hi)
		s.addDouble(o.lo)
	} else {
		s.addInt(o.integer)
	}
	if o.hasDec {
		s.addDecimal(&o.decimal)
	}
}

// double returns the sum of the integers and doubles, rounded.
func (s *Sum) double() float64 {
	if !s.wide {
		return float64(s.integer)
	}
	if r := s.hi + s.lo; !math.IsNaN(r) {
		return r
	}
	return s.special
}

// Decimal returns the whole sum.
func (s *Sum) Decimal() *apd.Decimal {
	r := new(apd.Decimal)
	switch {
	case !s.wide:
		r.SetInt64(s.integer)
	case math.IsNaN(s.hi + s.lo):
		r = DecimalFromDouble(s.special).APD()
	default:
		_, _ = bson.DecimalContext.Add(r, DecimalFromDouble(s.hi).APD(), DecimalFromDouble(s.lo).APD())
	}
	if s.hasDec {
		_, _ = bson.DecimalContext.Add(r, r, &s.decimal)
	}
	return r
}

// Float returns the whole sum as a double.
func (s *Sum) Float() float64 {
	if s.hasDec {
		return bson.DecimalFromAPD(s.Decimal()).Float64()
	}
	return s.double()
}

// fitsLong returns the sum of integers and doubles rounded to a long.
func (s *Sum) fitsLong() (int64, bool) {
	if !s.wide {
		return s.integer, true
	}
	if math.IsNaN(s.hi) || s.hi > 1<<63 || s.hi < -(1<<63) {
		return 0, false
	}
	if s.hi == 1<<63 {
		if s.lo >= 0 {
			return 0, false
		}
		return int64(math.Round(s.lo)) + math.MaxInt64 + 1, true
	}
	if s.hi == -(1<<63) && s.lo < 0 {
		return 0, false
	}
	i := int64(math.Round(s.hi))
	return i + int64(math.Round((s.hi-float64(i))+s.lo)), true
}

// Value returns the sum in the narrowest type that holds it and is not narrower than
// what was added: 0 for nothing.
func (s *Sum) Value(env *Env) bson.Value {
	switch s.widest {
	case bson.TypeMissing:
		return env.Int32(0)
	case bson.TypeDecimal128:
		return env.apd(s.Decimal())
	case bson.TypeDouble:
		return env.Double(s.double())
	}
	i, ok := s.fitsLong()
	switch {
	case !ok:
		return env.Double(s.double())
	case s.widest == bson.TypeInt32:
		return env.IntOrLong(i)
	}
	return env.Int64(i)
}

// Save returns the state as an array: widest type, integer, wide, hi, lo, special, and
// the decimal sum if there is one.
func (s *Sum) Save() []bson.Value {
	vs := []bson.Value{
		bson.V(int32(s.widest)), bson.V(s.integer), bson.V(s.wide), bson.V(s.hi), bson.V(s.lo), bson.V(s.special),
	}
	if s.hasDec {
		vs = append(vs, bson.V(bson.DecimalFromAPD(&s.decimal)))
	}
	return vs
}

// LoadSum reads what Save wrote.
func LoadSum(vs []bson.Value) Sum {
	s := Sum{
		widest: bson.Type(vs[0].Int32()), integer: vs[1].Int64(), wide: vs[2].Bool(),
		hi: vs[3].Double(), lo: vs[4].Double(), special: vs[5].Double(),
	}
	if len(vs) > 6 {
		s.hasDec = true
		s.decimal.Set(vs[6].Decimal128().APD())
	}
	return s
}
