package command

import (
	"context"
	"errors"
	"slices"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Repl is the face of the node towards clients: a standalone has no set name.
type Repl interface {
	// SetName is the replica set's name, "" on a standalone.
	SetName() string
	// Initiated reports whether the set has a configuration.
	Initiated() bool
	// Config is the set's configuration document, nil before initiation.
	Config() bson.Raw
	// Initiate stores the first configuration; an empty doc asks for the default one.
	Initiate(ctx context.Context, config bson.Raw) error
	// Reconfig replaces the configuration.
	Reconfig(ctx context.Context, config bson.Raw, force bool) error
	// Members returns how many members bear data and vote.
	Members() int
	// Me is this member's host:port in the configuration.
	Me() string
	Term() int64
	ElectionID() bson.ObjectID
	ElectionTime() bson.Timestamp
	// Topology returns the present topology version and a channel that closes at its next change.
	Topology() (processID bson.ObjectID, counter int64, changed <-chan struct{})
	// WriteMode reports whether a custom write concern mode of that name is configured.
	WriteMode(name string) bool
}

// checkWriteConcern refuses before the command runs what can never be satisfied on
// this face, as MongoDB does.
func (c *Ctx) checkWriteConcern() error {
	wc := &c.Generic.WriteConcern
	if !wc.Given || c.Node.Repl.SetName() != "" {
		return nil
	}
	if wc.Mode == "" && wc.W > 1 {
		return mongoerr.New(mongoerr.BadValue, "cannot use 'w' > 1 when a host is not replicated")
	}
	if wc.Tags != nil {
		return mongoerr.New(mongoerr.BadValue, "cannot use tag-based 'w' when a host is not a member of a replica set: %s", wc.Tags)
	}
	if wc.Mode != "" && wc.Mode != "majority" {
		return mongoerr.New(mongoerr.BadValue, "cannot use non-majority 'w' mode %s when a host is not a member of a replica set", wc.Mode)
	}
	return nil
}

// waitWriteConcern waits as the write concern asks; what cannot be had becomes the
// reply's writeConcernError, since the write itself is done.
func (c *Ctx) waitWriteConcern() error {
	if !c.Command.Has(Write) || c.NoReply {
		return nil
	}
	if c.injectWCE != nil {
		c.Reply.AppendDoc("writeConcernError", c.injectWCE)
		code, _ := c.injectWCE.Get("code").AsInt64()
		c.noteWCE(mongoerr.Code(code))
		return nil
	}
	if c.readsOnly {
		return nil
	}
	wc := c.Generic.WriteConcern
	set := c.Node.Repl.SetName() != ""
	if set && wc.Given {
		if wc.Mode == "" && wc.W > int64(c.Node.Repl.Members()) {
			c.writeConcernError(mongoerr.New(mongoerr.UnsatisfiableWriteConcern, "Not enough data-bearing nodes"), false)
			return nil
		}
		if wc.Tags != nil && !c.tagsSatisfiable(wc.Tags) {
			c.writeConcernError(mongoerr.New(mongoerr.UnsatisfiableWriteConcern, "Not enough nodes match the tags of the write concern: %s", wc.Tags), false)
			return nil
		}
		if wc.Mode != "" && wc.Mode != "majority" && !c.Node.Repl.WriteMode(wc.Mode) {
			c.writeConcernError(mongoerr.New(mongoerr.UnknownReplWriteConcern, "No write concern mode named '%s' found in replica set configuration", wc.Mode), false)
			return nil
		}
	}
	// What many members have to have is not held back by one that has it in memory only.
	many := wc.Mode != "" || wc.Tags != nil
	journal := wc.J || (set && !wc.Given) || (set && many && !(wc.JGiven && !wc.J))
	if !journal {
		return nil
	}
	ts := c.wrote.TS
	if ts == 0 { // nothing written: wait for what this client may have seen
		ts, _ = c.Node.Waiter.LastApplied()
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	if wc.WTimeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, wc.WTimeout)
		defer cancel()
	}
	err := c.Node.Waiter.WaitJournaled(ctx, ts)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded) && c.Op.Interrupt() == nil:
		c.writeConcernError(mongoerr.New(mongoerr.WriteConcernFailed, "waiting for replication timed out"), true)
		return nil
	case c.Op.Interrupt() != nil:
		e, _ := mongoerr.As(c.Op.Interrupt())
		c.writeConcernError(e, false)
		return nil
	}
	return err
}

// waitFailed waits for the write concern of a command that failed: what made it fail, or what
// it had done before, is as durable as the client asks. The reply tells both errors.
func (c *Ctx) waitFailed(err error) {
	if c.injectWCE == nil && !c.triedWrite(err) {
		return
	}
	reply := c.Reply
	c.Reply = bson.NewBuilder(nil)
	if err := c.waitWriteConcern(); err != nil {
		c.Node.Log.Debug("write concern of a failed command", "command", c.Command.Name, "err", err)
	} else if doc := c.Reply.Finish(); !doc.IsEmpty() {
		c.failedWCE = doc
	}
	c.Reply = reply
}

// foundCodes are the errors of DDL that are found by looking at what is there, not at the command.
var foundCodes = []mongoerr.Code{mongoerr.NamespaceNotFound, mongoerr.NamespaceExists, mongoerr.IndexNotFound, mongoerr.DuplicateKey, mongoerr.IndexOptionsConflict,
	mongoerr.IndexKeySpecsConflict, mongoerr.AmbiguousIndexKeyPattern, mongoerr.DocumentValidationFailure, mongoerr.CommandNotSupportedOnView}

// triedWrite reports whether a command that failed had got to the data it was to change.
func (c *Ctx) triedWrite(err error) bool {
	if c.tried || c.Op.Query.Stats.TriedWrite {
		return true
	}
	e, ok := mongoerr.As(err)
	return ok && slices.Contains(foundCodes, e.Code) && c.Command.Has(Write) && !c.readsOnly
}

// tagsSatisfiable reports whether the members have enough different values of each tag.
func (c *Ctx) tagsSatisfiable(tags bson.Raw) bool {
	for tag, n := range tags.Elems() {
		values := map[string]bool{}
		for m := range c.Node.Repl.Config().Get("members").Doc().Values() {
			if v := m.Doc().Get("tags").Doc().Get(tag); v.Type == bson.TypeString {
				values[v.Str()] = true
			}
		}
		if f, _ := n.AsFloat64(); f > float64(len(values)) {
			return false
		}
	}
	return true
}

func (c *Ctx) writeConcernError(e *mongoerr.Error, timedOut bool) {
	c.wroteErrors = true
	c.noteWCE(e.Code)
	b := c.Reply
	b.Doc("writeConcernError")
	b.Int32("code", int32(e.Code)).Str("codeName", e.Code.String()).Str("errmsg", e.Message)
	b.Doc("errInfo")
	if timedOut {
		b.Bool("wtimeout", true)
	}
	b.Doc("writeConcern")
	wc := c.Generic.WriteConcern
	switch {
	case wc.Mode != "":
		b.Str("w", wc.Mode)
	case wc.Tags != nil:
		b.AppendDoc("w", wc.Tags)
	default:
		b.IntOrLong("w", wc.W)
	}
	if wc.JGiven {
		b.Bool("j", wc.J)
	}
	b.IntOrLong("wtimeout", wc.WTimeout.Milliseconds())
	b.Str("provenance", "clientSupplied")
	b.End().End().End()
}

// waitReadConcern waits for afterClusterTime and, for levels that promise durable
// data, for the journal.
func (c *Ctx) waitReadConcern() error {
	rc := c.Generic.ReadConcern
	if rc.Given && c.Node.Repl.SetName() == "" && (rc.Level == "snapshot" || rc.Level == "linearizable" || rc.AfterClusterTime != 0) {
		return mongoerr.New(123, "node needs to be a replica set member to use read concern")
	}
	if rc.AfterClusterTime == 0 && rc.Level != "linearizable" && rc.Level != "majority" && rc.Level != "snapshot" {
		return nil
	}
	applied, _ := c.Node.Waiter.LastApplied()
	ts := applied
	if rc.AfterClusterTime > applied {
		return mongoerr.New(mongoerr.InvalidOptions, "readConcern afterClusterTime value must not be greater than the current clusterTime. Requested clusterTime: { ts: Timestamp(%d, %d) }; current clusterTime: { ts: Timestamp(%d, %d) }",
			rc.AfterClusterTime.Seconds(), rc.AfterClusterTime.Increment(), applied.Seconds(), applied.Increment())
	}
	if rc.AtClusterTime > applied {
		return mongoerr.New(mongoerr.InvalidOptions, "readConcern atClusterTime value must not be greater than the current clusterTime. Requested clusterTime: { ts: Timestamp(%d, %d) }; current clusterTime: { ts: Timestamp(%d, %d) }",
			rc.AtClusterTime.Seconds(), rc.AtClusterTime.Increment(), applied.Seconds(), applied.Increment())
	}
	if rc.Level == "" || rc.Level == "local" || rc.Level == "available" {
		return nil // everything applied is already visible
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	if err := c.Node.Waiter.WaitJournaled(ctx, ts); err != nil {
		if ierr := c.Op.Interrupt(); ierr != nil {
			return ierr
		}
		return err
	}
	return nil
}
