//go:build race

package crash

// defaultClones is small under the race detector, which makes a check ten times as slow.
const defaultClones = 100
