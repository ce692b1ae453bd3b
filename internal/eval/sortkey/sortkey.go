// Package sortkey turns sort patterns into keys of documents.
//
// It owns the parsing of sort patterns with MongoDB's errors, the choice of the key
// among array elements (smallest when ascending, largest when descending; parts of a
// compound pattern below one array come from the same element), the order of keys, and
// their encoding for spilled runs.
//
// It promises that keys alias the documents they came from and that comparing never
// allocates. It must not know cursors, spilling or indexes.
package sortkey

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
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
	// Collation orders strings; nil is the simple one. Set it before the pattern is used.
	Collation *collate.Collator
}

// maxParts is how many fields a pattern may have, as an index.
const maxParts = 32

var metaNames = map[string]bool{
	"textScore": true, "randVal": true, "geoNearDistance": true, "searchScore": true,
	"searchHighlights": true, "vectorSearchScore": true, "score": true,
}

// unavailable is the metadata that only text, geospatial and Atlas searches make, which are not built.
var unavailable = map[string]string{
	"textScore": "text score", "geoNearDistance": "$geoNear distance", "searchScore": "$search score",
	"searchHighlights": "$search highlights", "vectorSearchScore": "$vectorSearch score", "score": "score",
}

// Parse reads a sort pattern such as {a: 1, "b.c": -1, s: {$meta: "textScore"}}. The
// empty pattern has no parts and keeps every order. $natural is the caller's business.
func Parse(spec bson.Raw) (*Pattern, error) {
	p := &Pattern{}
	for path, v := range spec.Elems() {
		part, err := parsePart(path, v)
		if err != nil {
			return nil, err
		}
		for _, q := range p.Parts {
			if q.Path == path {
				return nil, mongoerr.New(7472500, "$sort key must not contain duplicate keys (duplicate: '%s')", path)
			}
		}
		p.Parts = append(p.Parts, part)
	}
	if len(p.Parts) > maxParts {
		return nil, mongoerr.New(13103, "too many compound keys")
	}
	return p, nil
}

func parsePart(path string, v bson.Value) (Part, error) {
	part := Part{Path: strings.Clone(path), parts: strings.Split(strings.Clone(path), ".")}
	if v.Type == bson.TypeDocument {
		return part, parseMeta(&part, path, bson.Raw(v.Data))
	}
	if err := checkPath(path); err != nil {
		return part, err
	}
	if !v.IsNumber() {
		return part, mongoerr.New(15974, "Illegal key in $sort specification: %s: %s", path, v)
	}
	switch f, _ := v.AsFloat64(); {
	case f >= 1 && f < 2:
	case f <= -1 && f > -2:
		part.Descending = true
	default:
		return part, mongoerr.New(15975, "$sort key ordering must be 1 (for ascending) or -1 (for descending)")
	}
	return part, nil
}

func parseMeta(part *Part, path string, d bson.Raw) error {
	key, name := d.First()
	switch {
	case key != "$meta":
		return mongoerr.New(17312, "$meta is the only expression supported by $sort right now")
	case d.Len() != 1:
		return mongoerr.New(mongoerr.FailedToParse, "Cannot have additional keys in a $meta sort specification")
	case name.Type != bson.TypeString || !metaNames[name.Str()]:
		return mongoerr.New(31138, "Illegal $meta sort: %s: %s", key, name)
	case unavailable[name.Str()] != "":
		return mongoerr.New(40218, "query requires %s metadata, but it is not available", unavailable[name.Str()])
	}
	// Scores sort best first.
	part.Meta, part.Descending = strings.Clone(name.Str()), name.Str() != "geoNearDistance"
	return nil
}

// checkPath refuses what cannot be a field path in a sort.
func checkPath(path string) error {
	switch {
	case path == "":
		return mongoerr.New(40352, "FieldPath cannot be constructed with empty string")
	case strings.HasSuffix(path, "."):
		return mongoerr.New(40353, "FieldPath must not end with a '.'.")
	}
	for name := range strings.SplitSeq(path, ".") {
		switch {
		case name == "":
			return mongoerr.New(15998, "FieldPath field names may not be empty strings.")
		case name[0] == '$':
			return mongoerr.New(16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField.")
		}
	}
	return nil
}

// NeedsMeta reports whether some part sorts by metadata.
func (p *Pattern) NeedsMeta() bool {
	for i := range p.Parts {
		if p.Parts[i].Meta != "" {
			return true
		}
	}
	return false
}

// Serialize returns the pattern as a document, directions as the ints 1 and -1.
func (p *Pattern) Serialize() bson.Raw {
	b := bson.NewBuilder(nil)
	for _, part := range p.Parts {
		switch {
		case part.Meta != "":
			b.Doc(part.Path).Str("$meta", part.Meta).End()
		case part.Descending:
			b.Int32(part.Path, -1)
		default:
			b.Int32(part.Path, 1)
		}
	}
	return b.Finish()
}
