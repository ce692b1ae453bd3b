package pipeline

import (
	"context"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// unwindStage is $unwind.
type unwindStage struct {
	path     string
	preserve bool
	index    string
}

func parseUnwind(_ *parser, _ string, v bson.Value) ([]stage, error) {
	u := &unwindStage{}
	prefixed, hasPath := "", false
	switch v.Type {
	case bson.TypeString:
		prefixed, hasPath = v.Str(), true
	case bson.TypeDocument:
		for k, e := range v.Doc().Elems() {
			switch k {
			case "path":
				if e.Type != bson.TypeString {
					return nil, mongoerr.New(28808, "expected a string as the path for $unwind stage, got %s", e.Type)
				}
				prefixed, hasPath = e.Str(), true
			case "preserveNullAndEmptyArrays":
				if e.Type != bson.TypeBool {
					return nil, mongoerr.New(28809, "expected a boolean for the preserveNullAndEmptyArrays option to $unwind stage, got %s", e.Type)
				}
				u.preserve = e.Bool()
			case "includeArrayIndex":
				if e.Type != bson.TypeString || e.Str() == "" {
					return nil, mongoerr.New(28810, "expected a non-empty string for the includeArrayIndex  option to $unwind stage, got %s", e.Type)
				}
				if u.index = e.Str(); strings.HasPrefix(u.index, "$") {
					return nil, mongoerr.New(28822, "includeArrayIndex option to $unwind stage should not be prefixed with a '$': %s", u.index)
				}
			default:
				return nil, mongoerr.New(28811, "unrecognized option to $unwind stage: %s", k)
			}
		}
	default:
		return nil, mongoerr.New(15981, "expected either a string or an object as specification for $unwind stage, got %s", v.Type)
	}
	if !hasPath || prefixed == "" {
		return nil, mongoerr.New(28812, "no path specified to $unwind stage")
	}
	if prefixed[0] != '$' {
		return nil, mongoerr.New(28818, "path option to $unwind stage should be prefixed with a '$': %s", prefixed)
	}
	u.path = prefixed[1:]
	if err := expr.CheckFieldPath(u.path); err != nil {
		return nil, err
	}
	if u.index != "" {
		if err := expr.CheckFieldPath(u.index); err != nil {
			return nil, err
		}
	}
	return []stage{u}, nil
}

func (u *unwindStage) info() stageInfo          { return stageInfo{name: "$unwind"} }
func (u *unwindStage) optimize() (stage, error) { return u, nil }

func (u *unwindStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$unwind").Str("path", "$"+u.path)
	if u.preserve {
		b.Bool("preserveNullAndEmptyArrays", true)
	}
	if u.index != "" {
		b.Str("includeArrayIndex", u.index)
	}
	b.End().End()
}

func (u *unwindStage) deps(d *expr.Deps) visibility {
	d.AddPath(u.path)
	return seesInput
}

// passes reports whether a filter on path means the same before the stage.
func (u *unwindStage) passes(path string) bool {
	return !related(path, u.path) && (u.index == "" || !related(path, u.index))
}

func (u *unwindStage) open(_ *Options, src Iterator) (Iterator, error) {
	it := &unwindIter{src: src, u: u, path: splitPath(u.path), b: bson.NewBuilder(nil)}
	if u.index != "" {
		it.index = splitPath(u.index)
	}
	return it, nil
}

type unwindIter struct {
	src         Iterator
	u           *unwindStage
	path, index []string
	doc         bson.Raw
	elems       bson.Iter
	open        bool
	n           int64
	b           *bson.Builder
	buf, tmp    []byte
	hold        []byte
}

func (it *unwindIter) Next(ctx context.Context) (bson.Raw, error) {
	for {
		if it.open {
			if it.elems.Next() {
				it.n++
				return it.document(it.elems.Value(), bson.V(it.n-1)), nil
			}
			it.open = false
		}
		doc, err := it.src.Next(ctx)
		if err != nil || doc == nil {
			return nil, err
		}
		// A copy: the source may give up its memory between two batches.
		it.hold = append(it.hold[:0], doc...)
		it.doc = it.hold
		v := nested(it.doc, it.path)
		null := bson.Value{Type: bson.TypeNull}
		switch {
		case v.Type == bson.TypeArray && !v.Doc().IsEmpty():
			it.elems, it.open, it.n = v.Doc().Iter(), true, 0
		case v.Type == bson.TypeArray && it.u.preserve:
			return it.document(bson.Value{}, null), nil
		case v.Type == bson.TypeArray:
		case v.IsNullish() && !it.u.preserve:
		default: // not an array: as it is
			if it.index == nil {
				return doc, nil
			}
			return it.document(v, null), nil
		}
	}
}

// document makes the document with v at the path and the index beside it. The index is
// null where v was not an element.
func (it *unwindIter) document(v, index bson.Value) bson.Raw {
	it.b.Reset(it.buf[:0])
	withPath(it.b, it.doc, it.path, v)
	doc := it.b.Finish()
	it.buf = it.b.Buffer()
	if it.index == nil {
		return doc
	}
	if n, ok := index.AsInt64(); ok {
		index = bson.V(n)
	}
	it.b.Reset(it.tmp[:0])
	withPath(it.b, doc, it.index, index)
	doc = it.b.Finish()
	it.tmp = it.b.Buffer()
	return doc
}

func (it *unwindIter) Close() error { return it.src.Close() }
