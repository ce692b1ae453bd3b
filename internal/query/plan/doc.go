// Package plan turns a query into plans: which index with which bounds, what is left
// to filter, which order comes for free.
//
// It owns index bounds (intervals of values, made from predicates, with how exactly
// they stand for them), the choice of candidate indexes under the rules for multikey,
// sparse and partial ones, the tree of plan nodes, its explain form, query shapes and
// the plan cache.
//
// It promises that running any plan it offers gives the query's results: bounds never
// lose a document, and what they admit too much is filtered. It is pure: it knows
// indexes by their description only, and must not know storage, catalogs or cursors.
package plan
