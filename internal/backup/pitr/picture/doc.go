// Package picture draws what a repository covers: as lines of text for a terminal and as one
// self-contained HTML page.
//
// It owns the two drawings and nothing else: what is drawn is a chain.Coverage. It promises
// that a gap is never drawn over: a column of time in which any moment cannot be restored is
// not drawn as restorable.
package picture
