package query

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/project"
	"github.com/cairndb/cairn/internal/mongoerr"
)

var missing = bson.Value{}

// FindAndModify implements Executor.
func (l *Local) FindAndModify(op *OpContext, r *FindAndModifyRequest) (*FindAndModifyReply, error) {
	defer l.noteLastOp(op)
	if err := l.checkFindAndModify(r); err != nil {
		return nil, err
	}
	prior, err := l.executed(op, 0)
	if err != nil {
		return nil, err
	}
	u := &updateOp{l: l, op: op, ns: r.NS, sort: r.Sort, hint: r.Hint, upsert: r.Upsert, bypass: r.BypassValidation, info: op.writeInfo(0), keep: true, collation: r.Collation}
	mod := r.Update
	if r.Remove {
		mod = missing
	}
	if err := u.parse(r.Query, mod, r.ArrayFilters, r.Let); err != nil {
		return nil, err
	}
	proj, err := u.sc.projection(r.Fields, u.filter)
	if err != nil {
		return nil, err
	}
	if r.New && !r.Remove && proj != nil && proj.NeedsPositional() {
		return nil, mongoerr.New(mongoerr.BadValue, "cannot use a positional projection and return the new document")
	}
	if prior != nil {
		return l.retriedFindAndModify(r, u, proj, prior)
	}
	if op.HasTxn {
		u.info.RetryImage = "preImage"
		if r.New && !r.Remove {
			u.info.RetryImage = "postImage"
		}
	}
	if err := u.run(); err != nil {
		return nil, inPlan("Plan executor error during findAndModify", err)
	}
	rep := &FindAndModifyReply{N: u.matched, HasUpdated: !r.Remove, UpdatedExisting: u.matched > 0, UpsertedID: u.upsertedID}
	if !u.upsertedID.IsMissing() {
		rep.N = 1
	}
	value := u.old
	if r.New && !r.Remove {
		value = u.new
	}
	rep.Value, err = u.shown(value, proj)
	return rep, err
}

func (l *Local) checkFindAndModify(r *FindAndModifyRequest) error {
	if l.seriesBuckets(r.NS) != nil {
		return mongoerr.New(mongoerr.InvalidOptions, "Cannot perform a findAndModify on a time-series collection: %s", r.NS)
	}
	return l.checkWritable(r.NS)
}

// shown applies the projection to the document of the reply.
func (u *updateOp) shown(doc bson.Raw, proj *project.Projection) (bson.Raw, error) {
	if doc == nil || proj == nil {
		return doc, nil
	}
	x := &project.Extra{Env: u.sc.env}
	if proj.NeedsPositional() && u.full != nil {
		if _, err := u.full.MatchDetails(doc, &u.details); err != nil {
			return nil, err
		}
		x.Details = &u.details
	}
	return proj.Apply(doc, x)
}

// retriedFindAndModify answers from what the log says of the first execution.
func (l *Local) retriedFindAndModify(r *FindAndModifyRequest, u *updateOp, proj *project.Projection, p *PriorResult) (*FindAndModifyReply, error) {
	if err := p.CheckFindAndModify(r); err != nil {
		return nil, err
	}
	rep := &FindAndModifyReply{N: p.N, HasUpdated: !r.Remove, UpdatedExisting: p.Op == 'u', UpsertedID: p.UpsertedID, Retried: true}
	value := p.Image
	if p.Op == 'i' && !r.New {
		value = nil
	}
	var err error
	rep.Value, err = u.shown(value, proj)
	return rep, err
}
