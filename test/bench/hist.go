package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets whose width is at most 1/64 of their value, so that a
// quantile is right to 1.6 %. Each worker has its own; merge adds them up.
type histogram struct {
	counts [64 * subBuckets]uint32
	n      uint64
	max    time.Duration
}

// subBuckets is the number of buckets a power of two is divided in.
const subBuckets = 64

// bucket numbers a duration: exact below 128 ns, then 64 buckets for each doubling.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := bits.Len64(v) - 7
	if shift <= 0 {
		return int(v)
	}
	return shift*subBuckets + int(v>>shift)
}

// upper is the largest duration in bucket i.
func upper(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i)
	}
	shift := i/subBuckets - 1
	return time.Duration((uint64(i-shift*subBuckets)+1)<<shift - 1)
}

func (h *histogram) record(d time.Duration) {
	h.counts[bucket(d)]++
	h.n++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile returns the duration that a share q of the recorded ones does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q*float64(h.n-1)) + 1
	var seen uint64
	for i, c := range h.counts {
		if seen += uint64(c); seen >= rank {
			return min(upper(i), h.max)
		}
	}
	return h.max
}
