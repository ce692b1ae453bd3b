// Package golden holds what a real MongoDB server answered and wrote into its oplog, and the
// tests that a node here does the same. testdata/differences.txt lists where Cairn answers
// otherwise, each with its reason; what is not listed there is a bug.
//
// The real server was 4.2.2, older than the 8.0 that Cairn follows, so most reasons are changes
// that MongoDB itself made between the two.
package golden
