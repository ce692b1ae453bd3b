package pipeline

import (
	"context"
	"math"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/accum"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// bucketAutoStage is $bucketAuto: the documents in the order of an expression's value, cut
// into buckets of about the same number. Equal values are in one bucket.
type bucketAutoStage struct {
	groupBy expr.Expr
	buckets int64
	fields  []*accum.Field
}

func parseBucketAuto(ps *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, mongoerr.New(40240, "The argument to $bucketAuto must be an object, but found type: %s.", v.Type)
	}
	s := &bucketAutoStage{}
	output := bson.D("count", bson.D("$sum", 1))
	for k, e := range v.Doc().Elems() {
		switch k {
		case "groupBy":
			if !(e.Type == bson.TypeString && strings.HasPrefix(e.Str(), "$")) && !(e.Type == bson.TypeDocument && isOperatorDoc(e.Doc())) {
				return nil, mongoerr.New(40239, "The $bucketAuto 'groupBy' field must be defined as a $-prefixed path or an expression object, but found: %s.", expr.ToJSON(e))
			}
			var err error
			if s.groupBy, err = expr.Parse(e, ps.o.Expr); err != nil {
				return nil, err
			}
		case "buckets":
			n, ok := e.AsInt64()
			f, _ := e.AsFloat64()
			switch {
			case !e.IsNumber():
				return nil, mongoerr.New(40241, "The $bucketAuto 'buckets' field must be a numeric value, but found type: %s.", e.Type)
			case !ok || float64(n) != f || n != int64(int32(n)):
				return nil, mongoerr.New(40242, "The $bucketAuto 'buckets' field must be representable as a 32-bit integer, but found %s.", expr.ToJSON(e))
			case n <= 0:
				return nil, mongoerr.New(40243, "The $bucketAuto 'buckets' field must be greater than 0, but found: %d.", n)
			}
			s.buckets = n
		case "output":
			if e.Type != bson.TypeDocument {
				return nil, mongoerr.New(40244, "The $bucketAuto 'output' field must be an object, but found type: %s.", e.Type)
			}
			output = e.Doc()
		case "granularity":
			return nil, mongoerr.New(mongoerr.CommandNotSupported, "$bucketAuto's granularity is not supported by this version of Cairn: round the value of groupBy instead")
		default:
			return nil, mongoerr.New(40245, "Unrecognized option to $bucketAuto: %s.", k)
		}
	}
	if s.groupBy == nil || s.buckets == 0 {
		return nil, mongoerr.New(40246, "$bucketAuto requires 'groupBy' and 'buckets' to be specified.")
	}
	for k, e := range output.Elems() {
		f, err := accum.Parse(k, e, accum.Options{Expr: ps.o.Expr, Key: ps.o.groupKey})
		if err != nil {
			return nil, err
		}
		s.fields = append(s.fields, f)
	}
	return []stage{s}, nil
}

func (s *bucketAutoStage) info() stageInfo { return stageInfo{name: "$bucketAuto"} }

func (s *bucketAutoStage) optimize() (stage, error) {
	n := &bucketAutoStage{buckets: s.buckets}
	var err error
	if n.groupBy, err = s.groupBy.Optimize(); err != nil {
		return nil, err
	}
	n.fields, err = optimizeFields(s.fields)
	return n, err
}

func (s *bucketAutoStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$bucketAuto")
	s.groupBy.Append(b, "groupBy")
	b.Int32("buckets", int32(s.buckets)).Doc("output")
	for _, f := range s.fields {
		f.Append(b)
	}
	b.End().End().End()
}

func (s *bucketAutoStage) deps(d *expr.Deps) visibility {
	s.groupBy.AddDeps(d)
	for _, f := range s.fields {
		f.Arg.AddDeps(d)
	}
	return sealed
}

func (s *bucketAutoStage) open(o *Options, src Iterator) (Iterator, error) {
	return &bucketIter{src: src, s: s, o: o}, nil
}

type bucketIter struct {
	src    Iterator
	s      *bucketAutoStage
	o      *Options
	sorter Sorter
	pairs  Pairs
	size   int64 // documents that a bucket should hold
	number int64 // buckets given so far
	have   bool  // pairs stands on a document that is in no bucket yet
}

func (it *bucketIter) Next(ctx context.Context) (bson.Raw, error) {
	if it.pairs == nil {
		if err := it.fill(ctx); err != nil {
			return nil, err
		}
	}
	if !it.have {
		return nil, it.pairs.Err()
	}
	return it.bucket()
}

// fill sorts the documents by their value.
func (it *bucketIter) fill(ctx context.Context) (err error) {
	it.sorter = it.o.Host.NewSorter(MaxMemory)
	env, count := it.o.env(), int64(0)
	var key []byte
	b := bson.NewBuilder(nil)
	for ; ; count++ {
		if count&127 == 127 {
			if err := it.o.interrupt(); err != nil {
				return err
			}
		}
		doc, err := it.src.Next(ctx)
		if err != nil {
			return err
		}
		if doc == nil {
			break
		}
		env.Reset(doc)
		v, err := it.s.groupBy.Eval(env)
		if err != nil {
			return err
		}
		if v.IsMissing() {
			v.Type = bson.TypeNull
		}
		key = it.o.groupKey(key[:0], v)
		b.Reset(b.Buffer()[:0])
		if err := it.sorter.Add(key, b.Append("v", v).AppendDoc("d", doc).Finish()); err != nil {
			return err
		}
		if it.sorter.Spilled() > 0 && !it.o.AllowDiskUse {
			return mongoerr.New(mongoerr.QueryExceededMemoryLimit,
				"Exceeded memory limit for $bucketAuto, but didn't allow external sort. Pass allowDiskUse:true to opt in.")
		}
	}
	it.size = max(1, int64(math.Round(float64(count)/float64(it.s.buckets))))
	if it.pairs, err = it.sorter.Sorted(); err != nil {
		return err
	}
	it.have = it.pairs.Next()
	return nil
}

// bucket takes the documents of the next bucket: its share, the last one all that are left,
// and those whose value equals that of the last taken. A bucket ends where the next begins.
func (it *bucketIter) bucket() (bson.Raw, error) {
	it.number++
	last := it.number == it.s.buckets
	states := make([]accum.State, len(it.s.fields))
	for i, f := range it.s.fields {
		states[i] = f.New()
	}
	lowest, highest := bson.Raw(it.pairs.Value()).Get("v").Clone(), bson.Value{}
	var key []byte
	env := it.o.env()
	for n := int64(0); it.have && (last || n < it.size || string(it.pairs.Key()) == string(key)); n++ {
		pair := bson.Raw(it.pairs.Value())
		key = append(key[:0], it.pairs.Key()...)
		highest = pair.Get("v").Clone()
		env.Reset(pair.Get("d").Doc())
		for i, f := range it.s.fields {
			v, err := f.Arg.Eval(env)
			if err != nil {
				return nil, err
			}
			if err := states[i].Add(v); err != nil {
				return nil, err
			}
		}
		it.have = it.pairs.Next()
	}
	if err := it.pairs.Err(); err != nil {
		return nil, err
	}
	if it.have {
		highest = bson.Raw(it.pairs.Value()).Get("v").Clone()
	}
	env.Reset(bson.Empty)
	out := bson.NewBuilder(nil).Doc("_id").Append("min", lowest).Append("max", highest).End()
	for i, f := range it.s.fields {
		v := states[i].Value(env)
		if v.IsMissing() {
			v.Type = bson.TypeNull
		}
		out.Append(f.Name, v)
	}
	return out.Finish(), nil
}

func (it *bucketIter) Close() error {
	if it.pairs != nil {
		it.pairs.Close() // temporary files: the next start removes what is left
	}
	if it.sorter != nil {
		it.sorter.Close()
	}
	it.have = false
	return it.src.Close()
}
