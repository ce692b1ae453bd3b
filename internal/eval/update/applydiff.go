package update

import (
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// malformed is the error of an update entry that no server writes.
func malformed(format string, args ...any) error {
	return mongoerr.New(mongoerr.FailedToParse, "update entry: "+format, args...)
}

// ApplyDiff applies the `diff` of a $v:2 entry. A part that does not fit doc is
// skipped, so that replaying an entry over newer data does no harm. Its errors are
// about diffs that are malformed in themselves.
func ApplyDiff(doc, diff bson.Raw) (bson.Raw, error) {
	b := bson.NewBuilder(make([]byte, 0, len(doc)+len(diff)))
	if err := applyDoc(b, doc, diff); err != nil {
		return nil, err
	}
	return b.Finish(), nil
}

// sections are the parts of a document's diff.
type sections struct {
	d, u, i bson.Raw
	subs    []elem // keys without the s
}

func readSections(diff bson.Raw) (s sections, err error) {
	for k, v := range diff.Elems() {
		switch {
		case k == "d" && v.Type == bson.TypeDocument:
			s.d = bson.Raw(v.Data)
		case k == "u" && v.Type == bson.TypeDocument:
			s.u = bson.Raw(v.Data)
		case k == "i" && v.Type == bson.TypeDocument:
			s.i = bson.Raw(v.Data)
		case k == "b" && v.Type == bson.TypeDocument:
			return s, malformed("binary diffs are not supported")
		case strings.HasPrefix(k, "s") && v.Type == bson.TypeDocument:
			s.subs = append(s.subs, elem{k[1:], v})
		default:
			return s, malformed("unknown section %q in diff", k)
		}
	}
	return s, nil
}

func (s *sections) sub(key string) (bson.Raw, bool) {
	for _, e := range s.subs {
		if e.key == key {
			return bson.Raw(e.val.Data), true
		}
	}
	return nil, false
}

// applyDoc adds the elements of doc, changed by diff, to the document open in b.
func applyDoc(b *bson.Builder, doc, diff bson.Raw) error {
	s, err := readSections(diff)
	if err != nil {
		return err
	}
	var updated map[string]bool
	for k, v := range doc.Elems() {
		if s.d.Has(k) || s.i.Has(k) {
			continue
		}
		if nv := s.u.Get(k); !nv.IsMissing() {
			b.Append(k, nv)
			if updated == nil {
				updated = map[string]bool{}
			}
			updated[k] = true
			continue
		}
		sub, ok := s.sub(k)
		if !ok {
			b.Append(k, v)
			continue
		}
		if err := applySub(b, k, v, sub); err != nil {
			return err
		}
	}
	// An updated field that has gone since comes back at the end.
	for k, v := range s.u.Elems() {
		if !updated[k] && !doc.Has(k) {
			b.Append(k, v)
		}
	}
	b.AppendElems(s.i)
	return nil
}

// applySub applies a nested diff to v if it is of the right kind.
func applySub(b *bson.Builder, key string, v bson.Value, diff bson.Raw) error {
	array := diff.Get("a").Truthy()
	switch {
	case array && v.Type == bson.TypeArray:
		b.Array(key)
		if err := applyArray(b, bson.Raw(v.Data), diff); err != nil {
			return err
		}
		b.End()
	case !array && v.Type == bson.TypeDocument:
		b.Doc(key)
		if err := applyDoc(b, bson.Raw(v.Data), diff); err != nil {
			return err
		}
		b.End()
	default:
		b.Append(key, v)
	}
	return nil
}

// maxArrayIndex bounds the nulls that a diff can make an array hold.
const maxArrayIndex = 16 << 20 / 8

// applyArray adds the elements of arr, changed by diff, to the array open in b.
func applyArray(b *bson.Builder, arr, diff bson.Raw) error {
	limit := int64(-1)
	type step struct {
		index int
		sub   bool
		val   bson.Value
	}
	var steps []step
	for k, v := range diff.Elems() {
		switch {
		case k == "a":
		case k == "l":
			n, ok := v.AsInt64()
			if !ok || n < 0 {
				return malformed("bad length %s in array diff", v)
			}
			limit = n
		case k[:min(1, len(k))] == "u", k[:min(1, len(k))] == "s" && v.Type == bson.TypeDocument:
			i, err := strconv.Atoi(k[1:])
			if err != nil || i < 0 || i > maxArrayIndex {
				return malformed("bad index %q in array diff", k)
			}
			steps = append(steps, step{i, k[0] == 's', v})
		default:
			return malformed("unknown section %q in array diff", k)
		}
	}
	n := 0
	it := arr.Iter()
	for ; it.Next() && (limit < 0 || int64(n) < limit); n++ {
		if len(steps) == 0 || steps[0].index != n {
			b.Append("", it.Value())
			continue
		}
		st := steps[0]
		steps = steps[1:]
		if !st.sub {
			b.Append("", st.val)
		} else if err := applySub(b, "", it.Value(), bson.Raw(st.val.Data)); err != nil {
			return err
		}
	}
	for _, st := range steps {
		if st.sub || st.index < n || (limit >= 0 && int64(st.index) >= limit) {
			continue
		}
		for ; n < st.index; n++ {
			b.Null("")
		}
		b.Append("", st.val)
		n++
	}
	return nil
}

// ApplyV1 applies the `o` of a $v:1 update entry ($set and $unset). What does not fit
// doc is skipped.
func ApplyV1(doc, mods bson.Raw) (bson.Raw, error) {
	for op, arg := range mods.Elems() {
		if op == "$v" {
			continue
		}
		if (op != "$set" && op != "$unset") || arg.Type != bson.TypeDocument {
			return nil, malformed("operator %q in a $v:1 entry", op)
		}
		for path, v := range bson.Raw(arg.Data).Elems() {
			u := &Update{root: &node{}}
			var m modifier = set{v, false}
			if op == "$unset" {
				m = unset{}
			}
			if err := u.root.insert(path, strings.Split(path, "."), m); err != nil {
				continue
			}
			if next, changed, err := u.operators(doc, &Input{}); err == nil && changed {
				doc = next
			}
		}
	}
	return doc, nil
}

// ApplyEntry applies the `o` of an update entry of any form: $v:2 diff, $v:1 modifiers
// or a replacement (which keeps the document's _id).
func ApplyEntry(doc, o bson.Raw) (bson.Raw, error) {
	first, v := o.First()
	if !strings.HasPrefix(first, "$") {
		return withID(o, doc.Get("_id")), nil
	}
	if first != "$v" {
		return ApplyV1(doc, o) // servers before 3.6 wrote no version
	}
	switch n, _ := v.AsInt64(); n {
	case 1:
		return ApplyV1(doc, o)
	case 2:
		diff := o.Get("diff")
		if diff.Type != bson.TypeDocument {
			return nil, malformed("$v:2 entry without a diff")
		}
		return ApplyDiff(doc, bson.Raw(diff.Data))
	}
	return nil, malformed("unknown update entry version %s", v)
}
