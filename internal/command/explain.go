package command

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

// runExplain parses the explained command with that command's own row, then asks
// the query room.
func runExplain(c *Ctx) error {
	_, v := c.first()
	if v.Type != bson.TypeDocument {
		return wrongType("explain.explain", v.Type, TObject)
	}
	verbosity := "allPlansExecution"
	if s := c.ArgStr("verbosity"); s != "" {
		verbosity = s
	}
	switch verbosity {
	case "queryPlanner", "executionStats", "allPlansExecution":
	default:
		return mongoerr.New(mongoerr.BadValue, "Enumeration value '%s' for field 'explain.verbosity' is not a valid value.", verbosity)
	}
	inner := v.Doc()
	name, _ := inner.First()
	cmd := c.Node.Table.Lookup(name)
	if cmd == nil {
		return mongoerr.New(mongoerr.CommandNotFound, "Explain failed due to unknown command: %s", name)
	}
	sub := *c
	sub.Command, sub.Body, sub.Sequences = cmd, inner, nil
	sub.args.fill(inner)
	if err := sub.checkArgs(); err != nil {
		return err
	}
	r := &query.ExplainRequest{Verbosity: verbosity}
	var err error
	switch cmd.Name {
	case "find":
		r.Find = new(query.FindRequest)
		err = sub.findRequest(r.Find)
	case "aggregate":
		sub.Command = c.Command // the cursor argument is optional here
		r.Aggregate, err = sub.aggregateRequest()
		sub.Command = cmd
	case "count":
		r.Count, err = sub.countRequest()
	case "distinct":
		r.Distinct, err = sub.distinctRequest()
	case "update":
		r.Update, err = sub.updateRequest()
	case "delete":
		r.Delete, err = sub.deleteRequest()
	case "findAndModify":
		r.FindAndModify, err = sub.findAndModifyRequest()
	default:
		return mongoerr.New(mongoerr.IllegalOperation, "Cannot explain cmd: %s", cmd.Name)
	}
	if err != nil {
		return err
	}
	if r.Update != nil && len(r.Update.Updates) != 1 || r.Delete != nil && len(r.Delete.Deletes) != 1 {
		return mongoerr.New(mongoerr.InvalidLength, "explained write batches must be of size 1")
	}
	if rc := sub.Generic.ReadConcern; rc.Given {
		c.Generic.ReadConcern = rc
	}
	if err := c.waitReadConcern(); err != nil {
		return err
	}
	return sub.explain(r, inner)
}

// explain adds what surrounds the plan in every explain reply.
func (c *Ctx) explain(r *query.ExplainRequest, cmd bson.Raw) error {
	b := c.Reply
	if id := c.Arg("collectionUUID"); !id.IsNullish() { // of a read; writes have compared theirs
		var ns query.Namespace
		switch {
		case r.Find != nil:
			ns = r.Find.NS
		case r.Aggregate != nil:
			ns = r.Aggregate.NS
		case r.Count != nil:
			ns = r.Count.NS
		}
		if err := c.checkUUID(ns, id); ns.Coll != "" && err != nil {
			return err
		}
	}
	if err := c.Node.Exec.Explain(c.queryOp(), r, b); err != nil {
		return err
	}
	b.Doc("command")
	for k, v := range cmd.Elems() {
		if genericArg(k) < 0 || k == "$db" || k == "comment" {
			b.Append(k, v)
		}
	}
	if !cmd.Has("$db") {
		b.Str("$db", c.DB)
	}
	b.End()
	b.Doc("serverInfo").Str("host", c.Node.Host.Hostname).IntOrLong("port", int64(c.Node.Host.Port)).
		Str("version", c.Node.Build.MongoVersion).Str("gitVersion", c.Node.Build.GitVersion).End()
	b.Doc("serverParameters").
		Int32("internalQueryFacetBufferSizeBytes", 100<<20).Int32("internalQueryFacetMaxOutputDocSizeBytes", 100<<20).
		Int32("internalLookupStageIntermediateDocumentMaxSizeBytes", 100<<20).Int32("internalDocumentSourceGroupMaxMemoryBytes", 100<<20).
		Int32("internalQueryMaxBlockingSortMemoryUsageBytes", 100<<20).Int32("internalQueryProhibitBlockingMergeOnMongoS", 0).
		Int32("internalQueryMaxAddToSetBytes", 100<<20).Int32("internalDocumentSourceSetWindowFieldsMaxMemoryBytes", 100<<20).
		Str("internalQueryFrameworkControl", "forceClassicEngine").End()
	return nil
}
