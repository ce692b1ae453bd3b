package restore

import (
	"bytes"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Metadata is what a .metadata.json file, or a collection of an archive's prelude, says.
type Metadata struct {
	Options        bson.D   `bson:"options,omitempty"`
	Indexes        []bson.D `bson:"indexes"`
	UUID           string   `bson:"uuid"`           // hexadecimal, "" in dumps of old servers
	CollectionName string   `bson:"collectionName"` // "" in dumps of old tools
	Type           string   `bson:"type"`
}

// ParseMetadata reads extended JSON. Empty bytes are no metadata: nil without an error.
func ParseMetadata(json []byte) (*Metadata, error) {
	if len(json) == 0 {
		return nil, nil
	}
	// Not at once into the struct: there the driver reads a field that it does not know, and
	// that is cut off, for ever.
	var doc bson.Raw
	if err := bson.UnmarshalExtJSON(json, true, &doc); err != nil {
		return nil, err
	}
	m := &Metadata{}
	if err := bson.Unmarshal(doc, m); err != nil {
		return nil, err
	}
	if rest := bytes.TrimSpace(json); len(rest) > 0 && rest[len(rest)-1] != '}' {
		return nil, fmt.Errorf("%q follows the document", rest[len(rest)-1])
	}
	for i, spec := range m.Indexes {
		if name, ok := lookup(spec, "name").(string); !ok || name == "" {
			return nil, fmt.Errorf("index %d has no name", i)
		}
		if key, ok := lookup(spec, "key").(bson.D); !ok || len(key) == 0 {
			return nil, fmt.Errorf("index %d has no key", i)
		}
	}
	return m, nil
}

// timeseries says whether the options are those of a time-series collection.
func (m *Metadata) timeseries() bool { return m != nil && lookup(m.Options, "timeseries") != nil }

// view says whether the options are those of a view.
func (m *Metadata) view() bool { return m != nil && lookup(m.Options, "viewOn") != nil }

// simpleCollation says whether strings compare as bytes by default.
func (m *Metadata) simpleCollation() bool {
	if m == nil {
		return true
	}
	c, ok := lookup(m.Options, "collation").(bson.D)
	return !ok || lookup(c, "locale") == "simple"
}

// lookup returns a field's value, nil if there is none.
func lookup(d bson.D, key string) any {
	for _, e := range d {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

// without returns d without the named fields; d itself stays as it is.
func without(d bson.D, keys ...string) bson.D {
	out := make(bson.D, 0, len(d))
next:
	for _, e := range d {
		for _, k := range keys {
			if e.Key == k {
				continue next
			}
		}
		out = append(out, e)
	}
	return out
}

// with returns d with a field set, at its place or at the end.
func with(d bson.D, key string, v any) bson.D {
	out := append(bson.D(nil), d...)
	for i := range out {
		if out[i].Key == key {
			out[i].Value = v
			return out
		}
	}
	return append(out, bson.E{Key: key, Value: v})
}

// jsonText is d as it stands in messages.
func jsonText(d any) string {
	b, err := bson.MarshalExtJSON(d, false, false)
	if err != nil {
		return fmt.Sprint(d)
	}
	return strings.TrimSpace(string(b))
}
