package command

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
)

var applyOpsArgs = []Arg{
	{"allowAtomic", TBool, false}, {"alwaysUpsert", TBool, false}, {"preCondition", TArray, false},
	{"oplogApplicationMode", TString, false}, {"bypassDocumentValidation", TBoolLike, false},
}

// maxApplyOps bounds the operations of one command by what a message can hold at all.
const maxApplyOps = 1 << 20

// runApplyOps applies entries one after the other, up to the first that is refused.
func runApplyOps(c *Ctx) error {
	_, v := c.Body.First()
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
	for i, op := range ops {
		if err := c.Op.Interrupt(); err != nil {
			return err
		}
		if err := c.applyOp(op); err != nil {
			return c.applyFailed(i, err)
		}
	}
	c.appendApplied(len(ops), true)
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

// appendApplied writes how many operations were tried; all but perhaps the last went well.
func (c *Ctx) appendApplied(n int, lastOK bool) {
	c.Reply.Int32("applied", int32(n)).Array("results")
	for i := range n {
		c.Reply.Bool("", lastOK || i < n-1)
	}
	c.Reply.End()
}

// applyFailed makes the command fail with what the reply tells of the operations
// before number i.
func (c *Ctx) applyFailed(i int, err error) error {
	c.waitApplied()
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

// waitApplied waits for the write concern of the operations that did go well.
func (c *Ctx) waitApplied() {
	mark := c.Reply.Mark()
	if err := c.waitWriteConcern(); err != nil {
		c.Node.Log.Debug("write concern of a failed applyOps", "err", err)
	}
	c.Reply.Rewind(mark)
}

// applyOp checks one operation as MongoDB does and applies it.
func (c *Ctx) applyOp(doc bson.Raw) error {
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
	if err := c.checkOp(&e, doc); err != nil {
		return err
	}
	at, err := c.Node.Apply(c, &e)
	c.Wrote(WriteResult{at.TS, at.Term})
	return err
}

func (c *Ctx) checkOp(e *oplog.Entry, doc bson.Raw) error {
	switch e.Op {
	case oplog.OpNoop, oplog.OpDatabase:
		return nil
	case oplog.OpCommand:
		if !strings.HasSuffix(e.NS, ".$cmd") {
			return mongoerr.New(mongoerr.InvalidNamespace, "applyOps: command operation on namespace '%s', which does not end in .$cmd", e.NS)
		}
		return nil
	}
	ns, err := splitNS(e.NS)
	if err != nil {
		return err
	}
	if e.Op == oplog.OpUpdate && e.O2 == nil {
		return mongoerr.New(mongoerr.NoSuchKey, "Missing expected field \"o2\"")
	}
	if e.Op != oplog.OpDelete && !e.HasUUID() && !c.Node.HasCollection(ns.DB, ns.Coll) {
		return mongoerr.New(mongoerr.NamespaceNotFound, "cannot apply insert or update operation on a non-existent namespace %s: %s", e.NS, doc)
	}
	return nil
}
