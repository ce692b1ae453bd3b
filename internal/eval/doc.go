// Package eval is the room of pure functions on documents: what a filter matches, what an
// expression yields, what an update makes of a document.
//
// It owns nothing itself; its subpackages do, and all of them are open to the other rooms:
// match (filters), expr (aggregation expressions), accum (accumulators), update (update
// operators and diffs), project (projections), sortkey (sort keys and their order), collate (the order of strings in a language) and regex (patterns). The
// first four hold a registry each: one row for each operator.
//
// It promises the same answer for the same bytes: the time, the source of randomness and the
// interrupt come in as arguments. It must not know I/O, clocks, contexts, storage or the catalog.
package eval
