package tool

import (
	"crypto/sha1" //nolint:gosec // the file format's digest, not a safeguard
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// Lengths of a collection's file name without its extension, as the originals have them:
// the longest extension is .metadata.json.gz, and a file name has at most 255 bytes.
const (
	maxFileName = 238
	cutFileName = 208
)

// BucketPrefix is what the collection behind a time-series collection is called.
const BucketPrefix = "system.buckets."

// EscapeName returns the file name, without extension, of a collection. Names that would
// be too long are cut, and made unique with a digest of the whole name; the name itself
// is then in the metadata file only.
func EscapeName(collection string) string { return EscapeNameFor(collection, ".gz") }

// EscapeNameFor is EscapeName for files with another compression's suffix: a longer one
// leaves less room for the name.
func EscapeNameFor(collection, suffix string) string {
	esc, less := url.QueryEscape(collection), max(0, len(suffix)-len(".gz"))
	if len(esc) <= maxFileName-less {
		return esc
	}
	sum := sha1.Sum([]byte(collection)) //nolint:gosec // see above
	return esc[:cutFileName-less] + "%24" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// UnescapeName is the inverse of EscapeName. cut says that the name was too long for a
// file name: then name is not the collection's, which stands in the metadata file.
func UnescapeName(file string) (name string, cut bool, err error) {
	name, err = url.QueryUnescape(file)
	if err != nil && isCut(file) {
		return "", true, nil // the cut went through an escape
	}
	if err != nil {
		return "", false, fmt.Errorf("file name %#q is not a percent-encoded collection name: %w", file, err)
	}
	return name, isCut(file), nil
}

// isCut tells by the encoded $, which no collection's name has, and the digest's length.
func isCut(file string) bool {
	const tail = len("%24") + 27 // base64 of 20 bytes
	n := len(file)
	return n > maxFileName-8 && n <= maxFileName && strings.HasPrefix(file[n-tail:], "%24")
}

// SplitNamespace splits "db.coll.with.dots" at the first dot.
func SplitNamespace(ns string) (db, coll string) {
	db, coll, _ = strings.Cut(ns, ".")
	return db, coll
}

// ValidateDBName refuses a database name that no server accepts. It also guards the file
// system against a server that makes up names with slashes.
func ValidateDBName(db string) error {
	if len(db) > 63 {
		return fmt.Errorf("db name %#q is longer than 63 characters", db)
	}
	for _, r := range "/\\. \"\x00$" {
		if strings.ContainsRune(db, r) {
			return fmt.Errorf("illegal character %#q found in db name %#q", r, db)
		}
	}
	return nil
}

// ValidateCollectionName refuses names that no collection can have; system collections
// are not refused.
func ValidateCollectionName(coll string) error {
	if coll == "" {
		return fmt.Errorf("collection name cannot be an empty string")
	}
	for _, r := range "$\x00" {
		if strings.ContainsRune(coll, r) {
			return fmt.Errorf("illegal character %#q found in %#q", r, coll)
		}
	}
	return nil
}

// Plural returns one for 1 and many for all other counts.
func Plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Count is a number with the word for so many: "1 document", "0 documents".
func Count[N int | int64](n N, one, many string) string {
	return fmt.Sprintf("%d %s", n, Plural(int64(n), one, many))
}
