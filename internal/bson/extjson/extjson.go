// Package extjson turns BSON into extended JSON (version 2) and back.
//
// It owns nothing but the seam to the official driver's reader and writer, so that
// the rest of Cairn handles bson.Raw only. It promises that what Marshal wrote in the
// canonical form comes back byte-equal from Unmarshal. It must not know documents of
// any special meaning.
package extjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	driver "go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/bson"
)

// Form is a form of extended JSON.
type Form bool

// Canonical keeps every type; Relaxed writes plain numbers and readable dates.
const (
	Canonical Form = true
	Relaxed   Form = false
)

// Marshal writes d in one line.
func Marshal(d bson.Raw, f Form) ([]byte, error) {
	b, err := driver.MarshalExtJSON(driver.Raw(d), bool(f), false)
	if err != nil {
		return nil, fmt.Errorf("extended JSON: %w", err)
	}
	return bytes.TrimSuffix(b, []byte("\n")), nil
}

// MarshalIndent writes d over several lines.
func MarshalIndent(d bson.Raw, f Form, prefix, indent string) ([]byte, error) {
	b, err := driver.MarshalExtJSONIndent(driver.Raw(d), bool(f), false, prefix, indent)
	if err != nil {
		return nil, fmt.Errorf("extended JSON: %w", err)
	}
	return b, nil
}

// MarshalValue writes one value in one line.
func MarshalValue(v bson.Value, f Form) ([]byte, error) {
	const head, tail = `{"v":`, `}`
	b, err := Marshal(bson.NewBuilder(nil).Append("v", v).Finish(), f)
	if err != nil || len(b) < len(head)+len(tail) {
		return nil, err
	}
	return b[len(head) : len(b)-len(tail)], nil
}

// String is Marshal in the relaxed form for logs and tests; malformed documents
// are shown as such.
func String(d bson.Raw) string {
	b, err := Marshal(d, Relaxed)
	if err != nil {
		return fmt.Sprintf("<malformed BSON: %v>", err)
	}
	return string(b)
}

// Unmarshal reads one document in either form, or both mixed.
func Unmarshal(text []byte) (bson.Raw, error) {
	var raw driver.Raw
	if err := driver.UnmarshalExtJSON(text, false, &raw); err != nil {
		return nil, fmt.Errorf("extended JSON: %w", err)
	}
	return bson.Raw(raw), nil
}

// UnmarshalValue reads one value.
func UnmarshalValue(text []byte) (bson.Value, error) {
	d, err := Unmarshal(append(append([]byte(`{"v":`), text...), '}'))
	if err != nil {
		return bson.Value{}, err
	}
	return d.Get("v"), nil
}

// MustParse is Unmarshal for constants in tests and tables; it panics on bad text.
func MustParse(text string) bson.Raw {
	d, err := Unmarshal([]byte(text))
	if err != nil {
		panic(err)
	}
	return d
}

// Reader reads a stream of documents, one behind the other or one a line.
type Reader struct{ dec *driver.Decoder }

// NewReader reads from r.
func NewReader(r io.Reader) (*Reader, error) {
	vr, err := driver.NewExtJSONValueReader(r, false)
	if err != nil {
		return nil, fmt.Errorf("extended JSON: %w", err)
	}
	return &Reader{driver.NewDecoder(vr)}, nil
}

// Next returns the next document, io.EOF behind the last.
func (r *Reader) Next() (bson.Raw, error) {
	var raw driver.Raw
	switch err := r.dec.Decode(&raw); {
	case err == nil:
		return bson.Raw(raw), nil
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	default:
		return nil, fmt.Errorf("extended JSON: %w", err)
	}
}
