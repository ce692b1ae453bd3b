package pipeline

import (
	"context"
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// lookupStage is $lookup in both forms.
type lookupStage struct {
	from                     Namespace
	as                       string
	localField, foreignField string
	letNames                 []string
	letIDs                   []expr.VarID
	letVals                  []expr.Expr
	sub                      *Pipeline // never nil
	specs                    []bson.Raw
	hasPipeline              bool
	subEnv                   *expr.Env
	unwind                   *unwindStage // of as, when it follows at once: see lookupunwind.go; nil: none
}

func lookupError(format string, a ...any) error {
	return mongoerr.New(mongoerr.FailedToParse, format, a...)
}

func parseLookup(ps *parser, _ string, v bson.Value) ([]stage, error) {
	if v.Type != bson.TypeDocument {
		return nil, lookupError("the $lookup stage specification must be an object, but found %s", v.Type)
	}
	l := &lookupStage{from: Namespace{DB: ps.o.NS.DB}}
	var let, pipe bson.Value
	for k, e := range v.Doc().Elems() {
		switch k {
		case "pipeline":
			pipe = e
			continue
		case "let":
			if e.Type != bson.TypeDocument {
				return nil, lookupError("$lookup argument 'let: %s' must be an object, is type %s", expr.ToJSON(e), e.Type)
			}
			let = e
			continue
		case "from":
			if e.Type == bson.TypeDocument {
				return nil, lookupError("$lookup with syntax {from: {db:<>, coll:<>},..} is not supported for db: %s and coll: %s",
					e.Doc().Get("db").Str(), e.Doc().Get("coll").Str())
			}
		}
		if e.Type != bson.TypeString {
			return nil, lookupError("$lookup argument '%s: %s' must be a string, found %s: %s is type %s", k, expr.ToJSON(e), k, expr.ToJSON(e), e.Type)
		}
		switch k {
		case "from":
			l.from.Coll = e.Str()
		case "as":
			l.as = e.Str()
		case "localField":
			l.localField = e.Str()
		case "foreignField":
			l.foreignField = e.Str()
		default:
			return nil, lookupError("unknown argument to $lookup: %s", k)
		}
	}
	if err := l.check(v, let, pipe); err != nil {
		return nil, err
	}
	return []stage{l}, l.parseSub(ps, let, pipe)
}

func (l *lookupStage) check(v, let, pipe bson.Value) error {
	startsWithDocuments := false
	if pipe.Type == bson.TypeArray {
		if first := pipe.Doc().Get("0"); first.Type == bson.TypeDocument {
			startsWithDocuments = first.Doc().Has("$documents")
		}
	}
	if l.from.Coll == "" && !startsWithDocuments {
		return lookupError("missing 'from' option to $lookup stage specification: %s", expr.ToJSON(v))
	}
	if l.as == "" {
		return lookupError("must specify 'as' field for a $lookup")
	}
	if err := expr.CheckFieldPath(l.as); err != nil {
		return err
	}
	if (l.localField == "") != (l.foreignField == "") {
		return lookupError("$lookup requires both or neither of 'localField' and 'foreignField' to be specified")
	}
	if pipe.IsMissing() {
		if l.localField == "" {
			return lookupError("$lookup requires either 'pipeline' or both 'localField' and 'foreignField' to be specified")
		}
		if !let.IsMissing() {
			return lookupError("$lookup with a 'let' argument must also specify 'pipeline'")
		}
	} else if pipe.Type != bson.TypeArray {
		return mongoerr.New(mongoerr.TypeMismatch, "'pipeline' option must be specified as an array")
	}
	for _, p := range []string{l.localField, l.foreignField} {
		if p != "" {
			if err := expr.CheckFieldPath(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lookupStage) parseSub(ps *parser, let, pipe bson.Value) error {
	pc := ps.o.Expr
	if pc == nil {
		pc = expr.NewParseContext()
	}
	inner := pc
	for k, e := range docElems(let) {
		if err := expr.CheckVarName(k); err != nil {
			return err
		}
		x, err := expr.Parse(e, pc)
		if err != nil {
			return err
		}
		var id expr.VarID
		inner, id = inner.With(k)
		l.letNames, l.letIDs, l.letVals = append(l.letNames, k), append(l.letIDs, id), append(l.letVals, x)
	}
	var err error
	if l.hasPipeline = !pipe.IsMissing(); l.hasPipeline {
		if l.specs, err = stageSpecs(pipe, notAnObject); err != nil {
			return err
		}
	}
	l.sub, l.subEnv, err = ps.subPipeline(l.specs, l.from, inner, inLookup)
	return err
}

func notAnObject(bson.Value) error {
	return mongoerr.New(mongoerr.TypeMismatch, "Each element of the 'pipeline' array must be an object")
}

func docElems(v bson.Value) func(yield func(string, bson.Value) bool) { return v.Doc().Elems() }

// subPipeline parses the pipeline of a $lookup or $unionWith, which has an Env of its own.
func (ps *parser) subPipeline(specs []bson.Raw, ns Namespace, pc *expr.ParseContext, where place) (*Pipeline, *expr.Env, error) {
	o := *ps.o
	o.NS, o.Expr, o.Env = ns, pc, ps.o.env().Sub()
	p, err := parsePipeline(specs, &o, where, ps.depth+1)
	return p, o.Env, err
}

func (l *lookupStage) info() stageInfo { return stageInfo{name: "$lookup"} }

func (l *lookupStage) optimize() (stage, error) {
	for i, e := range l.letVals {
		var err error
		if l.letVals[i], err = e.Optimize(); err != nil {
			return nil, err
		}
	}
	return l, l.sub.rewrite()
}

func (l *lookupStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$lookup")
	if l.from.Coll != "" {
		b.Str("from", l.from.Coll)
	}
	b.Str("as", l.as)
	if l.localField != "" {
		b.Str("localField", l.localField).Str("foreignField", l.foreignField)
	}
	if l.hasPipeline {
		b.Doc("let")
		for i, e := range l.letVals {
			e.Append(b, l.letNames[i])
		}
		b.End()
		b.Any("pipeline", l.specs)
	}
	if u := l.unwind; u != nil {
		b.Doc("unwinding").Bool("preserveNullAndEmptyArrays", u.preserve)
		if u.index != "" {
			b.Str("includeArrayIndex", u.index)
		}
		b.End()
	}
	b.End().End()
}

func (l *lookupStage) deps(d *expr.Deps) visibility {
	if l.localField != "" {
		d.AddPath(readPath(splitPath(l.localField)))
	}
	for _, e := range l.letVals {
		e.AddDeps(d)
	}
	// Variables of enclosing pipelines that the inner one reads.
	inner := &expr.Deps{}
	l.sub.deps(inner)
	for id := range inner.Vars {
		d.AddVar(id)
	}
	return seesInput
}

func (l *lookupStage) passes(path string) bool {
	return !related(path, l.as) && (l.unwind == nil || l.unwind.passes(path))
}

func (l *lookupStage) foreign() []Namespace {
	if l.from.Coll == "" {
		return l.sub.Namespaces()
	}
	return append([]Namespace{l.from}, l.sub.Namespaces()...)
}

// correlated reports whether the inner pipeline's result depends on the outer document.
func (l *lookupStage) correlated() bool {
	if l.localField != "" {
		return true
	}
	d := &expr.Deps{}
	l.sub.deps(d)
	for _, id := range l.letIDs {
		if _, ok := d.Vars[id]; ok {
			return true
		}
	}
	return d.Impure
}

func (l *lookupStage) open(o *Options, src Iterator) (Iterator, error) {
	it := &lookupIter{src: src, l: l, o: o, as: splitPath(l.as), cacheable: !l.correlated(), b: bson.NewBuilder(nil)}
	if l.unwind != nil {
		return newLookupUnwind(it), nil
	}
	return it, nil
}

type lookupIter struct {
	src       Iterator
	l         *lookupStage
	o         *Options
	as        []string
	cacheable bool
	cached    bson.Array
	arr, buf  []byte
	b         *bson.Builder
}

// maxLookupResult bounds the array of one document.
const maxLookupResult = bson.MaxDocSize + 16<<10

func (it *lookupIter) Next(ctx context.Context) (bson.Raw, error) {
	doc, err := it.src.Next(ctx)
	if err != nil || doc == nil {
		return nil, err
	}
	res := it.cached
	if res == nil {
		if res, err = it.join(ctx, doc); err != nil {
			return nil, err
		}
		if it.cacheable {
			it.cached = bson.Array(bson.Raw(res).Clone())
		}
	}
	it.b.Reset(it.buf[:0])
	withPath(it.b, doc, it.as, res.Value())
	out := it.b.Finish()
	it.buf = it.b.Buffer()
	return out, nil
}

// openJoin opens the inner pipeline for a document.
func (it *lookupIter) openJoin(ctx context.Context, doc bson.Raw) (Iterator, error) {
	if err := it.o.interrupt(); err != nil {
		return nil, err
	}
	l, outer := it.l, it.o.env()
	l.subEnv.InheritVars(outer)
	outer.Reset(doc)
	for i, e := range l.letVals {
		v, err := e.Eval(outer)
		if err != nil {
			return nil, err
		}
		l.subEnv.SetVar(l.letIDs[i], v.Clone())
	}
	p := l.sub
	if l.localField != "" {
		m, err := newMatch(p.o, joinFilter(doc, l.localField, l.foreignField))
		if err != nil {
			return nil, err
		}
		p = &Pipeline{append([]stage{m}, p.stages...), p.o, p.depth}
	}
	return openOn(ctx, p, l.from)
}

// join runs the inner pipeline for a document.
func (it *lookupIter) join(ctx context.Context, doc bson.Raw) (bson.Array, error) {
	inner, err := it.openJoin(ctx, doc)
	if err != nil {
		return nil, err
	}
	defer inner.Close()
	b := bson.NewArrayBuilder(it.arr[:0])
	for {
		d, err := inner.Next(ctx)
		if err != nil {
			return nil, err
		}
		if d == nil {
			break
		}
		if b.AppendDoc("", d); b.Len() > maxLookupResult {
			return nil, mongoerr.New(4568, "Total size of documents in %s matching pipeline's $lookup stage exceeds %d bytes", it.l.from.Coll, maxLookupResult)
		}
	}
	a := bson.Array(b.Finish())
	it.arr = b.Buffer()
	return a, nil
}

// openOn runs an inner pipeline: through the host, or by itself if it has a source.
func openOn(ctx context.Context, p *Pipeline, ns Namespace) (Iterator, error) {
	if p.HasSource() && ns.Coll == "" {
		return p.Run(nil)
	}
	return p.o.Host.Open(ctx, ns, p, p.o.env())
}

func (it *lookupIter) Close() error { return it.src.Close() }

// joinFilter is the filter on the foreign field: any of the values at the local path,
// null if there is none.
func joinFilter(doc bson.Raw, local, foreign string) bson.Raw {
	var vals []bson.Value
	regex := false
	visitValues(doc, splitPath(local), func(v bson.Value) {
		vals = append(vals, v)
		regex = regex || v.Type == bson.TypeRegex
	})
	switch {
	case len(vals) == 0:
		return bson.D(foreign, bson.D("$eq", nil))
	case len(vals) == 1 && vals[0].Type != bson.TypeUndefined:
		return bson.D(foreign, bson.D("$eq", vals[0]))
	case !regex:
		return bson.D(foreign, bson.D("$in", vals))
	}
	b := bson.NewBuilder(nil)
	b.Array("$or")
	for _, v := range vals {
		b.AppendDoc("", bson.D(foreign, bson.D("$eq", v)))
	}
	return b.Finish()
}

// visitValues calls f for each value at a path: through arrays, by number too; an array
// at the end gives its elements.
func visitValues(d bson.Raw, parts []string, f func(bson.Value)) {
	v := d.Get(parts[0])
	visitRest(v, parts[1:], f)
}

func visitRest(v bson.Value, parts []string, f func(bson.Value)) {
	switch {
	case len(parts) == 0 && v.Type == bson.TypeArray:
		for e := range v.Doc().Values() {
			f(e)
		}
	case len(parts) == 0:
		if !v.IsMissing() {
			f(v)
		}
	case v.Type == bson.TypeDocument:
		visitValues(v.Doc(), parts, f)
	case v.Type == bson.TypeArray:
		if n, err := strconv.ParseUint(parts[0], 10, 31); err == nil && (len(parts[0]) == 1 || !strings.HasPrefix(parts[0], "0")) {
			visitRest(v.Doc().Get(strconv.FormatUint(n, 10)), parts[1:], f)
		}
		for e := range v.Doc().Values() {
			if e.Type == bson.TypeDocument {
				visitValues(e.Doc(), parts, f)
			}
		}
	}
}
