package pipeline

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// unpackStage is $_internalUnpackBucket, the pipeline of the view of a time-series
// collection: a document for each measurement of a bucket.
type unpackStage struct {
	spec       bson.Raw
	time, meta string
}

func parseUnpack(_ *parser, name string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(5346500, "%s specification must be an object, got: %s", name, v.Type)
	}
	u := &unpackStage{spec: v.Doc()}
	for k, e := range v.Doc().Elems() {
		want := bson.TypeString
		switch k {
		case "timeField":
			u.time = e.Str()
		case "metaField":
			u.meta = e.Str()
		case "exclude", "include":
			if e.Type != bson.TypeArray || !e.Doc().IsEmpty() {
				return nil, mongoerr.New(mongoerr.CommandNotSupported, "%s with the field '%s' is not supported by this server", name, k)
			}
			continue
		case "bucketMaxSpanSeconds":
			if !e.IsNumber() {
				return nil, mongoerr.New(5510600, "bucketMaxSpanSeconds field must be an integer, got: %s", e.Type)
			}
			continue
		case "assumeNoMixedSchemaData", "usesExtendedRange", "fixedBuckets":
			continue
		default:
			return nil, mongoerr.New(5346506, "unrecognized parameter to unpack stage: %s", k)
		}
		if e.Type != want {
			return nil, mongoerr.New(5346504, "%s field must be a string, got: %s", k, e.Type)
		}
	}
	if u.time == "" {
		return nil, mongoerr.New(5346508, "%s stage requires timeField parameter", name)
	}
	return []stage{u}, nil
}

func (u *unpackStage) info() stageInfo          { return stageInfo{name: "$_internalUnpackBucket"} }
func (u *unpackStage) optimize() (stage, error) { return u, nil }

func (u *unpackStage) serialize(b *bson.Builder) {
	b.Doc("").AppendDoc("$_internalUnpackBucket", u.spec).End()
}

func (u *unpackStage) deps(d *expr.Deps) visibility {
	d.Whole = true
	return sealed
}

func (u *unpackStage) open(_ *Options, src Iterator) (Iterator, error) {
	return &unpackIter{src: src, u: u, b: bson.NewBuilder(nil)}, nil
}

type unpackIter struct {
	src       Iterator
	u         *unpackStage
	hold, buf []byte
	b         *bson.Builder

	open  bool
	meta  bson.Value
	times bson.Iter
	cols  []column
}

// column is one field of a bucket: its values by the number of the measurement, with gaps.
type column struct {
	name string
	it   bson.Iter
	more bool
}

func (it *unpackIter) Next(ctx context.Context) (bson.Raw, error) {
	for {
		if it.open {
			if it.times.Next() {
				return it.measurement(), nil
			}
			it.open = false
		}
		doc, err := it.src.Next(ctx)
		if err != nil || doc == nil {
			return nil, err
		}
		it.hold = append(it.hold[:0], doc...) // the source may give up its memory between two batches
		if err := it.begin(it.hold); err != nil {
			return nil, err
		}
	}
}

// begin opens the columns of a bucket.
func (it *unpackIter) begin(bucket bson.Raw) error {
	if n, ok := bucket.Get("control").Doc().Get("version").AsInt64(); !ok || n != 1 {
		return mongoerr.New(mongoerr.CommandNotSupported, "the bucket %s is compressed (control.version %d): this version of Cairn keeps such buckets, for dumps and restores too, but cannot read their measurements; dump them from their own server through a view",
			bucket.Get("_id"), n)
	}
	data := bucket.Get("data").Doc()
	times := data.Get(it.u.time)
	if times.Type != bson.TypeDocument {
		return mongoerr.New(5346505, "the bucket %s has no times", bucket.Get("_id"))
	}
	it.meta = bson.Value{}
	if it.u.meta != "" {
		it.meta = bucket.Get("meta")
	}
	it.times, it.cols, it.open = times.Doc().Iter(), it.cols[:0], true
	for k, v := range data.Elems() {
		if k == it.u.time || v.Type != bson.TypeDocument {
			continue
		}
		c := column{name: k, it: v.Doc().Iter()}
		c.more = c.it.Next()
		it.cols = append(it.cols, c)
	}
	return nil
}

// measurement makes the document of the present time: the time, the meta field, the others.
func (it *unpackIter) measurement() bson.Raw {
	it.b.Reset(it.buf[:0])
	it.b.Append(it.u.time, it.times.Value())
	if !it.meta.IsMissing() {
		it.b.Append(it.u.meta, it.meta)
	}
	for i := range it.cols {
		c := &it.cols[i]
		if c.more && c.it.Key() == it.times.Key() {
			it.b.Append(c.name, c.it.Value())
			c.more = c.it.Next()
		}
	}
	d := it.b.Finish()
	it.buf = it.b.Buffer()
	return d
}

func (it *unpackIter) Close() error { return it.src.Close() }
