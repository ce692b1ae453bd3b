//go:build !race

package crash

const defaultClones = 1000
