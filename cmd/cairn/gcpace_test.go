package main

import "testing"

func TestGCPercentFor(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 50}, {1 << 20, 50}, {96 << 20, 50}, {128 << 20, 37}, {480 << 20, 10}, {4 << 30, 5}} {
		if got := gcPercentFor(c.live); got != c.want {
			t.Errorf("live %d MB: %d %%, want %d", c.live>>20, got, c.want)
		}
	}
}
