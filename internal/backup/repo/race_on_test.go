//go:build race

package repo

// thin is how much coarser the long enumerations step under the race detector, which makes them
// ten times as slow; which steps are taken matters little to it.
const thin = 6
