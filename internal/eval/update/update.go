// Package update changes documents as update commands ask for.
//
// It owns the update language (operators, replacement), its validation with MongoDB's
// errors, evaluation on raw BSON into a new document, the difference of two documents
// as the oplog's $v:2 form and its application, the older $v:1 form, and the document
// that an upsert starts from.
//
// It promises that ApplyDiff(old, Diff(old, new)) is new, byte for byte, and that the
// documents that it is given are never changed. It must not know collections, indexes,
// clocks or the oplog's entries; time, expressions and pipelines come in as arguments.
package update

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Options of parsing.
type Options struct {
	// ArrayFilters of the command.
	ArrayFilters []bson.Raw
	// HasArrayFilters is set if the command had the field at all.
	HasArrayFilters bool
	// Multi is set for updates of many documents, which refuse a replacement.
	Multi bool
	// Match is for arrayFilters and $pull conditions.
	Match match.Options
	// Pipeline compiles a pipeline update (an array); nil refuses it. The function that
	// it returns maps a document to the new one.
	Pipeline func(stages bson.Array) (func(doc bson.Raw) (bson.Raw, error), error)
}

// Kind of an update.
type Kind int8

// The kinds of updates.
const (
	Operators Kind = iota
	Replacement
	Pipeline
)

// Update is a parsed update. It may be used by several goroutines at once.
type Update struct{ kind Kind }

// Input is what evaluation needs beside the document.
type Input struct {
	// Details of the match, for the positional `$`; nil if there are none.
	Details *match.Details
	// Now and Timestamp are for $currentDate.
	Now       bson.DateTime
	Timestamp bson.Timestamp
	// Insert is set when the document of an upsert is built: $setOnInsert acts, and no
	// diff is made.
	Insert bool
}

// Result of an update of one document.
type Result struct {
	// Doc is the new document (the old one if nothing changed).
	Doc bson.Raw
	// Modified is false for a no-op.
	Modified bool
	// Entry is the oplog's `o`: {$v: 2, diff: …} or the whole new document, whichever
	// is due. It is nil for a no-op and for inserts.
	Entry bson.Raw
}

var errTODO = mongoerr.New(mongoerr.InternalError, "not built yet")

// Parse reads the update of an update command: a document or, for a pipeline, an array.
func Parse(u bson.Value, o Options) (*Update, error) { return nil, errTODO }

// Kind returns what kind of update u is.
func (u *Update) Kind() Kind { return u.kind }

// NeedsPositional reports whether Input.Details is used.
func (u *Update) NeedsPositional() bool { return false }

// Paths returns the dotted paths that u may change (positional parts as written); ok is
// false if it may change anything.
func (u *Update) Paths() (paths []string, ok bool) { return nil, false }

// Apply evaluates u on doc.
func (u *Update) Apply(doc bson.Raw, in *Input) (Result, error) { return Result{}, errTODO }

// UpsertDocument returns the document that an upsert inserts, without an _id if neither
// filter nor update give one (the caller puts a new ObjectId in front).
func (u *Update) UpsertDocument(filter match.Node, in *Input) (bson.Raw, error) {
	return nil, errTODO
}

// Diff returns the `diff` of a $v:2 entry that turns old into new, and whether there
// is a difference.
func Diff(old, new bson.Raw) (diff bson.Raw, changed bool) { return nil, false }

// ApplyDiff applies the `diff` of a $v:2 entry. A part that does not fit doc is skipped.
func ApplyDiff(doc, diff bson.Raw) (bson.Raw, error) { return nil, errTODO }

// ApplyV1 applies the `o` of a $v:1 update entry ($set and $unset). What does not fit
// doc is skipped.
func ApplyV1(doc, mods bson.Raw) (bson.Raw, error) { return nil, errTODO }

// ApplyEntry applies the `o` of an update entry of any form: $v:2 diff, $v:1 modifiers
// or a replacement (which keeps the document's _id).
func ApplyEntry(doc, o bson.Raw) (bson.Raw, error) { return nil, errTODO }
