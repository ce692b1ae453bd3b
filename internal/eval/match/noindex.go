package match

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// What only an index of its own kind answers ends as on a MongoDB without that index: no
// index of these kinds has an engine.

// textFails checks the argument of $text too.
func textFails(arg bson.Value) error {
	if arg.Type != bson.TypeDocument {
		return badValue("$text expects an object")
	}
	d := arg.Doc()
	for k, v := range d.Elems() {
		want := bson.TypeString
		switch k {
		case "$search", "$language":
		case "$caseSensitive", "$diacriticSensitive":
			want = bson.TypeBool
		default:
			return badValue("extra fields in $text")
		}
		if v.Type != want {
			return mongoerr.New(mongoerr.TypeMismatch, "\"%s\" had the wrong type. Expected %s, found %s", k, want, v.Type)
		}
	}
	if !d.Has("$search") {
		return mongoerr.New(mongoerr.NoSuchKey, "Missing expected field \"$search\"")
	}
	return mongoerr.New(mongoerr.IndexNotFound, "text index required for $text query")
}

// nearFails is for $near and $nearSphere.
func nearFails(bson.Value) error {
	return mongoerr.New(mongoerr.NoQueryExecutionPlans, "error processing query: planner returned error :: caused by :: unable to find index for $geoNear query")
}
