// Package match decides whether a document satisfies a filter.
//
// It owns the filter language: parsing with MongoDB's errors, the tree of nodes that
// the planner reads, the rewrites that keep its meaning, and matching on raw bytes.
//
// It promises that a Matcher never changes or keeps the documents it is shown, that
// it may be used by several goroutines at once as long as the functions behind $expr
// may, that simple predicates allocate nothing, and that what it does not know is an
// error with MongoDB's code and message. Trees alias the filter they were parsed
// from: clone the filter if its buffer does not outlive the tree.
//
// It must not know collections, indexes, clocks or randomness; $expr comes in as a
// function.
package match
