// Package accum computes the accumulators of $group: $sum, $avg, $push and the like.
//
// It owns their registry (Table), the parsing of {field: {$op: expression}} and the
// states, which can be merged and saved so that groups may spill. It promises MongoDB's
// numeric types (int to long to double, decimals apart, compensated sums of doubles)
// and that a state never aliases the values it was shown.
//
// It must not know grouping keys, stages, collections or any I/O.
package accum
