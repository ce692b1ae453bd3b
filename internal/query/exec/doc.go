// Package exec runs plans: pull iterators over raw documents, without an allocation a
// document on the way from a scan through a filter.
//
// It owns the stages, the trial of several plans against each other, blocking sorts
// with their spilling, and giving up and finding again of positions: between batches,
// and now and then in a long scan, an execution holds no storage cursor.
//
// It promises that a document is returned only if it satisfies the whole filter in the
// version that is returned, also when it changes while an index scan is on its way to
// it. It must not know catalogs, commands or the reply's form.
package exec
