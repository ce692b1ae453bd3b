package main

import (
	"math"
	"math/rand/v2"
)

// zipfian draws ranks 0 … n-1, rank r with a probability proportional to 1/(r+1)^theta, by the
// method of Gray et al., "Quickly generating billion-record synthetic databases" (1994).
type zipfian struct {
	n                     int
	alpha, zetan, eta, h2 float64
}

// zipfTheta is YCSB's constant: the skew of its "zipfian" distribution.
const zipfTheta = 0.99

func newZipfian(n int) *zipfian {
	z := &zipfian{n: n, alpha: 1 / (1 - zipfTheta), h2: 1 + math.Pow(0.5, zipfTheta)}
	for i := 1; i <= n; i++ {
		z.zetan += 1 / math.Pow(float64(i), zipfTheta)
	}
	z.eta = (1 - math.Pow(2/float64(n), 1-zipfTheta)) / (1 - z.h2/z.zetan)
	return z
}

// next draws a rank.
func (z *zipfian) next(r *rand.Rand) int {
	u := r.Float64()
	uz := u * z.zetan
	switch {
	case uz < 1:
		return 0
	case uz < z.h2:
		return 1
	}
	return min(int(float64(z.n)*math.Pow(z.eta*u-z.eta+1, z.alpha)), z.n-1)
}

// scrambled spreads the popular ranks over all items, as YCSB's scrambled zipfian does.
func (z *zipfian) scrambled(r *rand.Rand) int {
	return int(hash64(uint64(z.next(r))) % uint64(z.n))
}

// hash64 is FNV-1a over the eight bytes of v.
func hash64(v uint64) uint64 {
	h := uint64(14695981039346656037)
	for range 8 {
		h = (h ^ (v & 0xff)) * 1099511628211
		v >>= 8
	}
	return h
}
