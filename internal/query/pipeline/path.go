package pipeline

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

func splitPath(p string) []string { return strings.Split(p, ".") }

// withPath adds to b the elements of d with the value at a dotted path replaced; a
// missing v removes it. What is absent on the way is made; what is no document on the
// way is replaced by one.
func withPath(b *bson.Builder, d bson.Raw, parts []string, v bson.Value) {
	found := false
	it := d.Iter()
	for it.Next() {
		if found || it.Key() != parts[0] {
			b.Append(it.Key(), it.Value())
			continue
		}
		found = true
		setPart(b, it.Value(), parts, v)
	}
	if !found && !v.IsMissing() {
		setPart(b, bson.Value{}, parts, v)
	}
}

func setPart(b *bson.Builder, old bson.Value, parts []string, v bson.Value) {
	if len(parts) == 1 {
		b.Append(parts[0], v)
		return
	}
	if old.Type != bson.TypeDocument {
		if v.IsMissing() {
			b.Append(parts[0], old)
			return
		}
		old = bson.Empty.Value()
	}
	b.Doc(parts[0])
	withPath(b, old.Doc(), parts[1:], v)
	b.End()
}

// nested returns the value at a path through documents only.
func nested(d bson.Raw, parts []string) bson.Value {
	for {
		v := d.Get(parts[0])
		if parts = parts[1:]; len(parts) == 0 {
			return v
		}
		if v.Type != bson.TypeDocument {
			return bson.Value{}
		}
		d = v.Doc()
	}
}
