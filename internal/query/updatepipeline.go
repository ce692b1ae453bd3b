package query

import (
	"context"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/pipeline"
)

// updateStages are the stages that an update may use.
var updateStages = map[string]bool{"$addFields": true, "$set": true, "$project": true, "$unset": true, "$replaceRoot": true, "$replaceWith": true}

// compilePipeline makes a function of a pipeline update: it maps a document to the next.
func (u *updateOp) compilePipeline(stages bson.Array) (func(bson.Raw) (bson.Raw, error), error) {
	var specs []bson.Raw
	for v := range stages.Raw().Values() {
		d := v.Doc()
		if v.Type != bson.TypeDocument {
			return nil, mongoerr.New(mongoerr.TypeMismatch, "Each element of the 'pipeline' array must be an object")
		}
		if name, _ := d.First(); d.Len() == 1 && !updateStages[name] && isStage(name) {
			return nil, mongoerr.New(mongoerr.InvalidOptions, "%s is not allowed to be used within an update", name)
		}
		specs = append(specs, d)
	}
	sc, err := u.scope()
	if err != nil {
		return nil, err
	}
	o := &pipeline.Options{NS: pipeline.Namespace(u.ns), Expr: sc.pc, Env: sc.env, AllowDiskUse: true, NoWrites: true}
	p, err := pipeline.Parse(specs, o)
	if err != nil {
		return nil, err
	}
	if p.Optimize() != nil {
		// A constant cannot be folded: that is an error of the documents that come to it.
		if p, err = pipeline.Parse(specs, o); err != nil {
			return nil, err
		}
	}
	return func(doc bson.Raw) (bson.Raw, error) {
		it, err := p.Run(&oneDocument{doc})
		if err != nil {
			return nil, err
		}
		defer it.Close()
		next, err := it.Next(u.op.Ctx)
		return next.Clone(), err
	}, nil
}

// CheckStages refuses names in an update's pipeline that no stage has: as in MongoDB the
// whole command fails then, before its first statement. All else that is wrong with a
// pipeline is an error of its statement.
func CheckStages(pipeline bson.Raw) error {
	for v := range pipeline.Values() {
		if name, _ := v.Doc().First(); v.Type == bson.TypeDocument && v.Doc().Len() == 1 && !isStage(name) {
			return mongoerr.New(mongoerr.UnrecognizedStage, "Unrecognized pipeline stage name: '%s'", name)
		}
	}
	return nil
}

// isStage reports whether aggregation knows a stage of that name.
func isStage(name string) bool {
	for _, row := range pipeline.Table() {
		if row.Name == name {
			return true
		}
	}
	return false
}

// oneDocument is a source of one document.
type oneDocument struct{ doc bson.Raw }

func (o *oneDocument) Next(context.Context) (bson.Raw, error) {
	d := o.doc
	o.doc = nil
	return d, nil
}

func (o *oneDocument) Close() error { return nil }
