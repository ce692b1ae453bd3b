package expr

import (
	"math"

	"github.com/cockroachdb/apd/v3"

	"github.com/cairndb/cairn/internal/bson"
)

// eachOperand calls f with the values that an accumulator used as an expression sees:
// its operands, or the elements of a single operand that is an array.
func eachOperand(args []bson.Value, f func(v bson.Value)) {
	if len(args) == 1 && args[0].Type == bson.TypeArray {
		for v := range args[0].Doc().Values() {
			f(v)
		}
		return
	}
	for _, v := range args {
		f(v)
	}
}

func evalSum(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	var s Sum
	eachOperand(args, func(v bson.Value) { s.Add(v) })
	return s.Value(env), nil
}

func evalAvg(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	var s Sum
	n := int64(0)
	eachOperand(args, func(v bson.Value) {
		if s.Add(v) {
			n++
		}
	})
	return s.Average(env, n), nil
}

// Average divides the sum by n: null if n is 0.
func (s *Sum) Average(env *Env, n int64) bson.Value {
	switch {
	case n == 0:
		return null
	case s.widest == bson.TypeDecimal128:
		return env.apd(divideDecimal(s.Decimal(), apd.New(n, 0)))
	}
	return env.Double(s.double() / float64(n))
}

func evalMin(env *Env, c *call, args []bson.Value) (bson.Value, error) { return extreme(c, args, -1) }
func evalMax(env *Env, c *call, args []bson.Value) (bson.Value, error) { return extreme(c, args, 1) }

// extreme returns the least (sign -1) or greatest (1) value, null if there is none.
func extreme(c *call, args []bson.Value, sign int) (bson.Value, error) {
	best := null
	eachOperand(args, func(v bson.Value) {
		if !v.IsNullish() && (best.Type == bson.TypeNull || c.cmp(v, best)*sign > 0) {
			best = v
		}
	})
	return best, nil
}

// StdDev computes a standard deviation in one pass (Welford). The zero StdDev is empty.
type StdDev struct {
	Count    int64
	Mean, M2 float64
}

// Add adds a number; anything else is passed over.
func (s *StdDev) Add(v bson.Value) {
	x, ok := v.AsFloat64()
	if !ok {
		return
	}
	s.Count++
	d := x - s.Mean
	s.Mean += d / float64(s.Count)
	s.M2 += d * (x - s.Mean)
}

// Merge adds what o has gathered.
func (s *StdDev) Merge(o *StdDev) {
	if o.Count == 0 {
		return
	}
	n := s.Count + o.Count
	d := o.Mean - s.Mean
	s.M2 += o.M2 + d*d*float64(s.Count)*float64(o.Count)/float64(n)
	s.Mean = (s.Mean*float64(s.Count) + o.Mean*float64(o.Count)) / float64(n)
	s.Count = n
}

// Value returns the deviation of the population or, if sample is set, of a sample.
func (s *StdDev) Value(env *Env, sample bool) bson.Value {
	n := s.Count
	if sample {
		n--
	}
	if n <= 0 {
		return null
	}
	if s.M2 == 0 {
		return env.Double(0)
	}
	return env.Double(math.Sqrt(s.M2 / float64(n)))
}

func evalStdDevPop(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	var s StdDev
	eachOperand(args, s.Add)
	return s.Value(env, false), nil
}

func evalStdDevSamp(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	var s StdDev
	eachOperand(args, s.Add)
	return s.Value(env, true), nil
}
