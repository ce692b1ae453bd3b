//go:build !race

package repo

// thin is 1: every step of an enumeration is taken.
const thin = 1
