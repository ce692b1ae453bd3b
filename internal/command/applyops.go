package command

import (
	"context"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/session"
)

var applyOpsArgs = []Arg{
	{"allowAtomic", TBool, false}, {"alwaysUpsert", TBool, false}, {"preCondition", TArray, false},
	{"oplogApplicationMode", TString, false}, {"bypassDocumentValidation", TBoolLike, false},
}

// maxApplyOps bounds the operations of one command by what a message can hold at all.
const maxApplyOps = 1 << 20

// runApplyOps applies entries one after the other, up to the first that is refused.
func runApplyOps(c *Ctx) error {
	_, v := c.first()
	if v.Type != bson.TypeArray {
		return wrongType("applyOps.applyOps", v.Type, TArray)
	}
	if c.Body.Has("preCondition") {
		return mongoerr.New(6711600, "applyOps command no longer supports the 'preCondition' option")
	}
	if c.ArgBool("alwaysUpsert", false) {
		return mongoerr.New(6711601, "applyOps command no longer supports the 'alwaysUpsert' option")
	}
	if mode := c.ArgStr("oplogApplicationMode"); mode != "" && mode != "ApplyOps" {
		return mongoerr.New(mongoerr.FailedToParse, "invalid oplog application mode provided in command, '%s'", mode)
	}
	ops, err := operations(v.Doc())
	if err != nil {
		return err
	}
	if err := c.writeLock(); err != nil {
		return err
	}
	c.tried = true
	ctx, cancel := c.Op.Context()
	defer cancel()
	replay := c.Node.NewReplay(!c.ArgBool("bypassDocumentValidation", false))
	defer replay.Close()
	err = c.applyAll(ctx, replay, ops)
	if ferr := replay.Finish(ctx); err == nil {
		err = ferr
	}
	if f := replay.Future(); f != nil {
		c.Wrote(WriteResult{f.OpTime.TS, f.OpTime.Term})
	}
	if err == nil {
		c.appendApplied(len(ops))
		return nil
	}
	return err
}

// Replay is a range of entries that is being applied over data that may be newer.
// catalog.Replay is one.
type Replay interface {
	Apply(ctx context.Context, e *oplog.Entry) error
	Finish(ctx context.Context) error
	// Close gives up what was not committed: a panic must leave nothing locked.
	Close()
	Future() *oplog.Future
}

// applyAll applies operations up to the first that is refused.
func (c *Ctx) applyAll(ctx context.Context, r Replay, ops []bson.Raw) error {
	for i, op := range ops {
		if err := c.Op.Interrupt(); err != nil {
			return err
		}
		if err := c.applyOp(ctx, r, op); err != nil {
			return c.applyFailed(i, err)
		}
	}
	return nil
}

func operations(list bson.Raw) (ops []bson.Raw, err error) {
	for k, v := range list.Elems() {
		if v.Type != bson.TypeDocument {
			return nil, wrongType("applyOps.applyOps."+k, v.Type, TObject)
		}
		if ops = append(ops, v.Doc()); len(ops) > maxApplyOps {
			return nil, mongoerr.New(mongoerr.InvalidLength, "applyOps takes at most %d operations", maxApplyOps)
		}
	}
	return ops, nil
}

// appendApplied writes that all operations went well.
func (c *Ctx) appendApplied(n int) {
	c.Reply.Int32("applied", int32(n)).Array("results")
	for range n {
		c.Reply.Bool("", true)
	}
	c.Reply.End()
}

// applyFailed makes the command fail with what the reply tells of the operations
// before number i.
func (c *Ctx) applyFailed(i int, err error) error {
	e := *c.Node.clientError(c, err)
	b := bson.NewBuilder(nil)
	if e.Extra != nil {
		b.AppendElems(e.Extra)
	}
	b.Int32("applied", int32(i+1)).Array("results")
	for range i {
		b.Bool("", true)
	}
	b.Bool("", false).End()
	e.Extra = b.Finish()
	return &e
}

// applyOp checks one operation as MongoDB does and applies it.
func (c *Ctx) applyOp(ctx context.Context, r Replay, doc bson.Raw) error {
	op := doc.Get("op")
	switch {
	case op.IsMissing():
		return missingField("OplogEntryBase.op")
	case op.Type != bson.TypeString:
		return wrongType("OplogEntryBase.op", op.Type, TString)
	}
	if _, ok := oplog.ParseOp(op.Str()); !ok {
		return mongoerr.New(mongoerr.BadValue, "Enumeration value '%s' for field 'OplogEntryBase.op' is not a valid value.", op.Str())
	}
	for _, f := range []Arg{{"ns", TString, true}, {"o", TObject, true}, {"o2", TObject, false}, {"ui", TBinData, false}} {
		v := doc.Get(f.Name)
		if v.IsMissing() && f.Required && op.Str() != "n" {
			return missingField("OplogEntryBase." + f.Name)
		}
		if !v.IsMissing() && !f.Types.Allows(v.Type) {
			return wrongType("OplogEntryBase."+f.Name, v.Type, f.Types)
		}
	}
	e, err := oplog.Decode(doc)
	if err != nil {
		return mongoerr.New(mongoerr.FailedToParse, "%v", err)
	}
	if skip, err := c.checkOp(&e, doc); skip || err != nil {
		return err
	}
	return r.Apply(ctx, &e)
}

// checkOp refuses what does not make sense. A delete from a collection that is not there
// is done already; the collections of sessions tell what this server's sessions wrote, and
// another log's words on them are passed over.
func (c *Ctx) checkOp(e *oplog.Entry, doc bson.Raw) (skip bool, err error) {
	switch e.Op {
	case oplog.OpNoop, oplog.OpDatabase:
		return true, nil
	case oplog.OpCommand:
		if !strings.HasSuffix(e.NS, ".$cmd") {
			return false, mongoerr.New(mongoerr.InvalidNamespace, "applyOps: command operation on namespace '%s', which does not end in .$cmd", e.NS)
		}
		return false, nil
	}
	ns, err := splitNS(e.NS)
	if err != nil {
		return false, err
	}
	if session.IsOwn(ns) {
		return true, nil
	}
	if e.Op == oplog.OpUpdate && e.O2 == nil {
		return false, mongoerr.New(mongoerr.NoSuchKey, "Missing expected field \"o2\"")
	}
	if e.HasUUID() || c.Node.HasCollection(ns.DB, ns.Coll) {
		return false, nil
	}
	if e.Op == oplog.OpDelete {
		return true, nil
	}
	return false, mongoerr.New(mongoerr.NamespaceNotFound, "cannot apply insert or update operation on a non-existent namespace %s: %s", e.NS, doc)
}
