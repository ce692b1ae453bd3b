// Package sortkey turns sort patterns into keys of documents.
//
// It owns the parsing of sort patterns with MongoDB's errors, the choice of the key
// among array elements (smallest when ascending, largest when descending), the order
// of keys, and their encoding as bytes that compare the same way.
//
// It promises that keys alias the documents they came from and that comparing never
// allocates. It must not know cursors, spilling or indexes.
package sortkey

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Part is one field of a sort pattern.
type Part struct {
	Path       string
	Descending bool
	Meta       string // of {$meta: …}: "textScore", "randVal", …; empty for fields

	parts []string
}

// Pattern is a parsed sort pattern.
type Pattern struct {
	Parts []Part
}

// Key holds one value for each part of a pattern. It aliases the document.
type Key []bson.Value

// Parse reads a sort pattern such as {a: 1, "b.c": -1, s: {$meta: "textScore"}}. The
// empty pattern has no parts and keeps every order.
func Parse(spec bson.Raw) (*Pattern, error) { return nil, errTODO }

// Key extracts the sort key of doc into dst, which it returns, grown if needed.
func (p *Pattern) Key(dst Key, doc bson.Raw) (Key, error) { return nil, errTODO }

// CompareKeys orders two keys of p.
func (p *Pattern) CompareKeys(a, b Key) int { return 0 }

// Compare orders two documents by p.
func (p *Pattern) Compare(a, b bson.Raw) (int, error) { return 0, errTODO }

// AppendKey encodes k so that bytes.Compare orders encodings of p's keys as CompareKeys
// does; the values cannot be read back.
func (p *Pattern) AppendKey(dst []byte, k Key) []byte { return dst }

var errTODO = mongoerr.New(mongoerr.InternalError, "not built yet")
