package pipeline

import (
	"context"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// maxStages bounds a pipeline.
const maxStages = 1000

// Pipeline is a parsed pipeline.
type Pipeline struct {
	stages []stage
	o      *Options
	depth  int
}

// Parse parses and validates a pipeline.
func Parse(specs []bson.Raw, o *Options) (*Pipeline, error) {
	return parsePipeline(specs, o, topLevel, 0)
}

// Empty reports whether no stage is left.
func (p *Pipeline) Empty() bool { return len(p.stages) == 0 }

// Optimize rewrites the pipeline in place: constants are folded, filters move to the
// front, neighbours join. Errors of constant expressions carry MongoDB's prefix.
func (p *Pipeline) Optimize() error { return p.optimize() }

// Find is what a find can do at the beginning of a pipeline.
type Find struct {
	Filter     bson.Raw // nil: all
	Sort       bson.Raw // nil: any order
	Skip       int64
	Limit      int64    // 0: none
	Projection bson.Raw // inclusion of what the rest of the pipeline reads; nil: whole documents
}

// SplitFind cuts off the leading $match, $sort, $skip and $limit stages (and finds out
// which fields the rest reads) and returns them as a find, with the rest. The receiver
// is not changed. It belongs behind Optimize.
func (p *Pipeline) SplitFind() (Find, *Pipeline) { return p.splitFind() }

// HasSource reports whether the first stage produces documents by itself ($documents,
// $collStats, $currentOp …): Run then takes a nil source.
func (p *Pipeline) HasSource() bool {
	return len(p.stages) > 0 && p.stages[0].info().source
}

// Writes reports whether the pipeline ends in $out or $merge, and the target.
func (p *Pipeline) Writes() (Namespace, bool) {
	if n := len(p.stages); n > 0 {
		switch s := p.stages[n-1].(type) {
		case *outStage:
			return s.ns, true
		case *mergeStage:
			return s.ns, true
		}
	}
	return Namespace{}, false
}

// Namespaces returns the other namespaces that the pipeline reads ($lookup, $unionWith).
func (p *Pipeline) Namespaces() []Namespace {
	var out []Namespace
	for _, s := range p.stages {
		if f, ok := s.(interface{ foreign() []Namespace }); ok {
			out = append(out, f.foreign()...)
		}
	}
	return out
}

// Prepend returns a pipeline of the stages of view (a view's own pipeline, parsed with
// the same options) and then those of p.
func (p *Pipeline) Prepend(view *Pipeline) *Pipeline {
	stages := append(append([]stage(nil), view.stages...), p.stages...)
	return &Pipeline{stages, p.o, p.depth}
}

// Env returns the environment that the pipeline's expressions are evaluated in.
func (p *Pipeline) Env() *expr.Env { return p.o.Env }

// ExprContext returns the variables in scope of the pipeline's expressions: filters that
// SplitFind gives may use them.
func (p *Pipeline) ExprContext() *expr.ParseContext { return p.o.Expr }

// Run starts the pipeline over source, which it closes. Nothing is read before the
// first Next.
func (p *Pipeline) Run(source Iterator) (Iterator, error) {
	it := source
	if it == nil {
		it = emptyIterator{}
	}
	for _, s := range p.stages {
		next, err := s.open(p.o, it)
		if err != nil {
			it.Close()
			return nil, err
		}
		it = next
	}
	if p.depth == 0 && len(p.stages) > 0 {
		it = &sizeIter{it}
	}
	return it, nil
}

// maxResult is the largest document that a pipeline may return: stages may add to what
// fitted into 16 MiB.
const maxResult = bson.MaxDocSize + 16<<10

// sizeIter refuses results that are too large for a reply.
type sizeIter struct{ src Iterator }

func (it *sizeIter) Next(ctx context.Context) (bson.Raw, error) {
	doc, err := it.src.Next(ctx)
	if len(doc) > maxResult {
		return nil, mongoerr.New(mongoerr.ObjectTooLarge, "BSONObj size: %d (0x%X) is invalid. Size must be between 0 and %d(16MB)",
			len(doc), len(doc), maxResult)
	}
	return doc, err
}

func (it *sizeIter) Close() error { return it.src.Close() }

// Explain adds the stages to the innermost array of b, as explain shows them.
func (p *Pipeline) Explain(b *bson.Builder) {
	for _, s := range p.stages {
		s.serialize(b)
	}
}

// Serialize returns the stages as an array of documents.
func (p *Pipeline) Serialize() bson.Array {
	b := bson.NewArrayBuilder(nil)
	p.Explain(b)
	return bson.Array(b.Finish())
}

type emptyIterator struct{}

func (emptyIterator) Next(context.Context) (bson.Raw, error) { return nil, nil }
func (emptyIterator) Close() error                           { return nil }

// place is where a pipeline stands.
type place int

const (
	topLevel place = iota
	inFacet
	inLookup
	inUnion
)

// stage is one parsed stage. Stages are immutable after Optimize.
type stage interface {
	info() stageInfo
	// open starts the stage over src.
	open(o *Options, src Iterator) (Iterator, error)
	// serialize adds the stage to the innermost array of b.
	serialize(b *bson.Builder)
	// optimize folds constants.
	optimize() (stage, error)
	// deps adds what the stage reads of its input and says what follows may still see.
	deps(d *expr.Deps) visibility
}

// visibility says how much of its input a stage lets through to those behind it.
type visibility int

const (
	seesInput visibility = iota // later stages read input fields too
	sealed                      // later stages see only what this one made
	seesAll                     // the whole document is part of the result
)

// stageInfo says where a stage may stand and what it does to the stream.
type stageInfo struct {
	name   string
	source bool // must be first, makes its own documents
	last   bool // must be last
}

func parsePipeline(specs []bson.Raw, o *Options, where place, depth int) (*Pipeline, error) {
	if len(specs) > maxStages {
		return nil, mongoerr.New(7749501, "Pipeline length must be no longer than %d stages.", maxStages)
	}
	if depth > 20 {
		return nil, mongoerr.New(51046, "Exceeded maximum sub-pipeline nesting depth of 20")
	}
	p := &Pipeline{o: o, depth: depth}
	ps := &parser{o: o, where: where, depth: depth}
	for i, spec := range specs {
		if spec.Len() != 1 {
			return nil, mongoerr.New(40323, "A pipeline stage specification object must contain exactly one field.")
		}
		name, arg := spec.First()
		row := rowOf(name)
		if row == nil || row.Status != expr.Implemented && row.refuse == nil {
			return nil, mongoerr.New(mongoerr.UnrecognizedStage, "Unrecognized pipeline stage name: '%s'", name)
		}
		if row.refuse != nil {
			return nil, row.refuse(name)
		}
		if err := ps.checkPlace(row, spec, i, len(specs)); err != nil {
			return nil, err
		}
		stages, err := row.parse(ps, name, arg)
		if err != nil {
			return nil, err
		}
		p.stages = append(p.stages, stages...)
	}
	if where == topLevel {
		if err := p.checkSource(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// parser is what parsing a stage may need.
type parser struct {
	o     *Options
	where place
	depth int
}

func (ps *parser) checkPlace(row *Row, spec bson.Raw, i, n int) error {
	if row.first && i > 0 {
		return mongoerr.New(40602, "%s is only valid as the first stage in a pipeline", row.Name)
	}
	if row.last && i < n-1 {
		return mongoerr.New(40601, "%s can only be the final stage in the pipeline", row.Name)
	}
	switch {
	case ps.o.APIStrict && (row.unstable || row.Name == "$collStats" && !countOnly(spec)):
		return mongoerr.New(mongoerr.APIStrictError, "stage %s is not allowed with 'apiStrict: true' in API Version 1", row.Name)
	case ps.where == inFacet && (row.first || row.last || row.Name == "$facet"):
		return mongoerr.New(40600, "%s is not allowed to be used within a $facet stage: %s", row.Name, expr.ToJSON(spec.Value()))
	case ps.where == inLookup && row.last:
		return mongoerr.New(51047, "%s is not allowed within a $lookup's sub-pipeline", row.Name)
	case ps.where == inUnion && row.last:
		return mongoerr.New(31441, "%s is not allowed within a $unionWith's sub-pipeline", row.Name)
	case row.last && ps.o.NoWrites:
		return mongoerr.New(mongoerr.OptionNotSupportedOnView, "The aggregation stage %s in the pipeline cannot be used here", row.Name)
	}
	return nil
}

// countOnly reports whether a $collStats asks for the count alone, which is all of it
// that version 1 of the API has.
func countOnly(spec bson.Raw) bool {
	_, v := spec.First()
	for k := range v.Doc().Elems() {
		if k != "count" {
			return false
		}
	}
	return true
}

// checkSource checks that what begins the pipeline fits {aggregate: 1} or a collection.
func (p *Pipeline) checkSource() error {
	var row *Row
	if len(p.stages) > 0 {
		row = rowOf(p.stages[0].info().name)
	}
	if p.o.NS.Coll == "" {
		if row == nil {
			return mongoerr.New(mongoerr.InvalidNamespace, "{aggregate: 1} is not valid for an empty pipeline.")
		}
		if !row.noCollection {
			return mongoerr.New(mongoerr.InvalidNamespace, "{aggregate: 1} is not valid for '%s'; a collection is required.", row.Name)
		}
		return nil
	}
	if row != nil && row.noCollection {
		return mongoerr.New(mongoerr.InvalidNamespace, "'%s' can only be run with {aggregate: 1}", row.Name)
	}
	return nil
}

// optimizeError adds MongoDB's prefix to what folding a constant gave.
func optimizeError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := mongoerr.As(err); ok {
		c := *e
		c.Message = "Failed to optimize pipeline :: caused by :: " + e.Message
		return &c
	}
	return fmt.Errorf("optimize pipeline: %w", err)
}
