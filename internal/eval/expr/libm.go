package expr

import "math"

// The functions below round like a good C library, within 0.51 units of the last place:
// the standard library's exponential and logarithms are off by one unit now and then,
// and results would differ from MongoDB's in the last digit.

const (
	ln2Hi = 6.93147180369123816490e-01 // the low bits are zero: times an exponent is exact
	ln2Lo = 1.90821492927058770002e-10
	// 1/ln(10) in two parts.
	invLn10Hi = 4.342944819032518e-01
	invLn10Lo = 1.098319650216765e-17
)

func twoSum(a, b float64) (s, e float64) {
	s = a + b
	z := s - a
	return s, (a - (s - z)) + (b - z)
}

// expParts returns e^(hi+lo) as a sum of two doubles times 2^k.
func expParts(hi, lo float64) (rh, rl float64, k int) {
	n := math.Round((hi + lo) / math.Ln2)
	// The reduced argument in two parts, at most 0.35.
	r, e := twoSum(hi-n*ln2Hi, -n*ln2Lo)
	// What n*ln2Lo loses in rounding matters only far behind the last place.
	e += lo - math.FMA(n, ln2Lo, -(n*ln2Lo))
	r2 := r * r
	r2Lo := math.FMA(r, r, -r2)
	p := 1.0 / 6227020800
	for _, c := range [...]float64{1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6} {
		p = p*r + c
	}
	p *= r2 * r
	s1, e1 := twoSum(1, r)
	s2, e2 := twoSum(s1, r2/2)
	s3, e3 := twoSum(s2, p)
	return s3, e1 + e2 + e3 + r2Lo/2 + e*(1+r), int(n)
}

func expDouble(x float64) float64 {
	switch {
	case math.IsNaN(x) || x > 710:
		return math.Exp(x)
	case x < -746:
		return 0
	}
	h, l, k := expParts(x, 0)
	if k < -1000 { // scale in two steps: the result may be subnormal
		return math.Ldexp(h+l, k)
	}
	return math.Ldexp(h+l, k)
}

// logParts returns ln(x) of a positive finite x as a sum of two doubles.
func logParts(x float64) (hi, lo float64) {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m *= 2
		e--
	}
	y := math.Log1p(m - 1)
	// One Newton step on e^-y shows what y lacks.
	h, l, k := expParts(-y, 0)
	h, l = math.Ldexp(h, k), math.Ldexp(l, k)
	p := m * h
	corr := (p - 1) + math.FMA(m, h, -p) + m*l
	fe := float64(e)
	s, t := twoSum(fe*ln2Hi, y)
	return s, t + corr + fe*ln2Lo
}

func lnDouble(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 1) {
		return math.Log(x)
	}
	h, l := logParts(x)
	return h + l
}

func log10Double(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 1) {
		return math.Log10(x)
	}
	h, l := logParts(x)
	h, l = twoSum(h, l)
	p := h * invLn10Hi
	return p + (math.FMA(h, invLn10Hi, -p) + h*invLn10Lo + l*invLn10Hi)
}
