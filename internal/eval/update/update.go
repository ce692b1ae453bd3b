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
	"bytes"

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

// Update is a parsed update. It may be used by several goroutines at once if the
// pipeline and the expressions behind Options may. It aliases what it was parsed from.
type Update struct {
	kind     Kind
	root     *node       // nil if flat is set
	flat     []flatField // sorted like a node's children
	flatRoom [2]flatField
	paths    []string
	filters  map[string]*match.Matcher // arrayFilters by identifier
	renames  []renameTo
	replace  bson.Raw
	pipeline func(doc bson.Raw) (bson.Raw, error)
	posPath  bool // uses `$`
	deep     bool // may nest deeper than the old document allows for
}

// Input is what evaluation needs beside the document.
type Input struct {
	// Details of the match, for the positional `$`; nil if there are none.
	Details *match.Details
	// Now and Timestamp are for $currentDate, Timestamp also for empty timestamps of a
	// replacement.
	Now       bson.DateTime
	Timestamp bson.Timestamp
	// KeepEmptyTS leaves empty timestamps of a replacement as they are.
	KeepEmptyTS bool
	// Insert is set when the document of an upsert is built: $setOnInsert acts, and no
	// diff is made.
	Insert bool
	// NoEntry spares the making of Result.Entry.
	NoEntry bool
	// Buf, if not nil, has room for the new document, which is then valid until it is used again.
	Buf *[]byte
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

// Kind returns what kind of update u is.
func (u *Update) Kind() Kind { return u.kind }

// NeedsPositional reports whether Input.Details is used.
func (u *Update) NeedsPositional() bool { return u.posPath }

// Paths returns the dotted paths that u may change (positional parts as written); ok is
// false if it may change anything.
func (u *Update) Paths() (paths []string, ok bool) {
	for i := range u.flat {
		paths = append(paths, u.flat[i].name)
	}
	return append(paths, u.paths...), u.kind == Operators
}

// Apply evaluates u on doc.
func (u *Update) Apply(doc bson.Raw, in *Input) (Result, error) {
	if u.flat != nil && !in.Insert {
		if r, ok := u.applyFlat(doc, in); ok {
			if r.Modified {
				if err := u.checkResult(doc, r.Doc); err != nil {
					return Result{}, err
				}
			}
			return r, nil
		}
	}
	var next bson.Raw
	var err error
	changed := true
	switch u.kind {
	case Operators:
		next, changed, err = u.operators(doc, in)
	case Replacement:
		if !in.Insert {
			err = checkReplacement(u.replace)
		}
		next = u.replacement(doc, in)
	default:
		if next, err = u.pipeline(doc); err == nil {
			next = withID(next, doc.Get("_id"))
		}
	}
	if err != nil {
		return Result{}, err
	}
	same := u.kind == Pipeline && bytes.Equal(next, doc)
	if u.kind == Replacement { // without an _id it is a change in any case, as in MongoDB
		same = bytes.Equal(u.replace, doc)
	}
	if !changed || same {
		return Result{Doc: doc}, nil
	}
	if err := u.checkResult(doc, next); err != nil {
		return Result{}, err
	}
	r := Result{Doc: next, Modified: true}
	if !in.Insert && !in.NoEntry {
		r.Entry = u.entry(doc, next)
	}
	return r, nil
}

// checkResult refuses documents that cannot be stored or have another _id.
func (u *Update) checkResult(old, next bson.Raw) error {
	oldID, newID := old.Get("_id"), next.Get("_id")
	if !oldID.IsMissing() && (oldID.Type != newID.Type || !bytes.Equal(oldID.Data, newID.Data)) {
		if u.kind == Operators {
			path := u.idPath()
			return mongoerr.New(mongoerr.ImmutableField, "Performing an update on the path '%s' would modify the immutable field '_id'", path)
		}
		if newID.IsMissing() || !bson.Equal(oldID, newID) {
			return mongoerr.New(mongoerr.ImmutableField, "After applying the update, the (immutable) field '_id' was found to have been altered to _id: %s", newID)
		}
	}
	if err := checkID(newID); err != nil {
		return err
	}
	if len(next) > bson.MaxDocSize {
		return mongoerr.New(17419, "Resulting document after update is larger than %d", bson.MaxDocSize)
	}
	if u.deep || u.kind != Operators {
		if bson.Validate(next, bson.MaxDepth) != nil {
			return mongoerr.New(mongoerr.Overflow, "Document exceeds maximum nesting depth of %d", bson.MaxDepth)
		}
	}
	return nil
}

// checkID refuses values that no _id may have.
func checkID(id bson.Value) error {
	switch id.Type {
	case bson.TypeArray, bson.TypeRegex, bson.TypeUndefined:
		return mongoerr.New(mongoerr.InvalidIdField, "The '_id' value cannot be of type %s", id.Type)
	}
	return nil
}

func (u *Update) idPath() string {
	for _, p := range u.paths {
		if p == "_id" || (len(p) > 4 && p[:4] == "_id.") {
			return p
		}
	}
	return "_id"
}

// entry returns the oplog's `o`. A pipeline may rewrite everything: then the document
// itself is the shorter entry.
func (u *Update) entry(old, next bson.Raw) bson.Raw {
	if u.kind == Replacement {
		return next
	}
	b := bson.NewBuilder(make([]byte, 0, 96))
	b.Int32("$v", 2).Doc("diff")
	ok := diffDoc(b, old, next, guide{n: u.tree()})
	entry := b.Finish()
	if !ok || (u.kind == Pipeline && len(entry) >= len(next)) {
		return next
	}
	return entry
}

// replacement returns the new document of a replacement, with the old _id in front.
func (u *Update) replacement(old bson.Raw, in *Input) bson.Raw {
	doc := u.replace
	if !in.KeepEmptyTS {
		doc = stampEmpty(doc, in.Timestamp)
	}
	return withID(doc, old.Get("_id"))
}

// checkReplacement refuses fields that start with a dollar sign at the top of a document
// that replaces another; an upsert may insert them.
func checkReplacement(d bson.Raw) error {
	for k := range d.Elems() {
		if k != "" && k[0] == '$' {
			return mongoerr.New(mongoerr.DollarPrefixedFieldName, "The dollar ($) prefixed field '%s' in '%s' is not allowed in the context of "+
				"an update's replacement document. Consider using an aggregation pipeline with $replaceWith.", k, k)
		}
	}
	return nil
}

// withID puts the _id, doc's own or else id, in front.
func withID(doc bson.Raw, id bson.Value) bson.Raw {
	first, _ := doc.First()
	if first == "_id" {
		return doc
	}
	if own := doc.Get("_id"); !own.IsMissing() {
		id = own
	}
	if id.IsMissing() {
		return doc
	}
	b := bson.NewBuilder(make([]byte, 0, len(doc)+len(id.Data)+8))
	b.Append("_id", id)
	for k, v := range doc.Elems() {
		if k != "_id" {
			b.Append(k, v)
		}
	}
	return b.Finish()
}

// stampEmpty replaces empty timestamps at the top level, as the server does when it
// stores a whole document.
func stampEmpty(doc bson.Raw, ts bson.Timestamp) bson.Raw {
	found := false
	for k, v := range doc.Elems() {
		found = found || (v.Type == bson.TypeTimestamp && v.Timestamp() == 0 && k != "_id")
	}
	if !found || ts == 0 {
		return doc
	}
	b := bson.NewBuilder(make([]byte, 0, len(doc)))
	for k, v := range doc.Elems() {
		if v.Type == bson.TypeTimestamp && v.Timestamp() == 0 && k != "_id" {
			b.Timestamp(k, ts)
			ts++
			continue
		}
		b.Append(k, v)
	}
	return b.Finish()
}
