package command

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

type perCommand struct{ m sync.Map } // name → *commandCount

type commandCount struct{ total, failed atomic.Int64 }

func (p *perCommand) get(name string) *commandCount {
	if v, ok := p.m.Load(name); ok {
		return v.(*commandCount)
	}
	v, _ := p.m.LoadOrStore(name, new(commandCount))
	return v.(*commandCount)
}

// Handle runs one request and writes its reply, errors included, into reply, an
// open document that holds nothing yet.
func (n *Node) Handle(ctx context.Context, client Client, req Request, reply *bson.Builder) Result {
	c := ctxs.Get().(*Ctx)
	c.Context, c.Request, c.Reply, c.Client, c.Node = ctx, req, reply, client, n
	c.start = n.Clock()
	mark := reply.Mark()
	depth := reply.Depth()
	err := c.run()
	if c.Result.Drop {
		return c.release()
	}
	if err != nil {
		for reply.Depth() > depth {
			reply.End()
		}
		reply.Rewind(mark)
		c.Result = Result{Failed: true}
		n.writeError(c, reply, err)
	}
	c.finish(err)
	n.count(c, err)
	return c.release()
}

// ctxs are for the next commands: with its index of arguments a Ctx is one of the largest
// things that a short command would leave to the collector. Nobody keeps one: a command
// that goes on in another goroutine takes what it needs with it.
var ctxs = sync.Pool{New: func() any { return new(Ctx) }}

func (c *Ctx) release() Result {
	r := c.Result
	*c = Ctx{}
	ctxs.Put(c)
	return r
}

// run finds the command, checks its arguments and runs it.
func (c *Ctx) run() (err error) {
	c.args.fill(c.Body)
	name, first := c.first()
	if db := c.args.value(c.Body, "$db"); db.Type == bson.TypeString {
		c.DB = db.Str()
	} else if c.Legacy {
		c.DB = c.LegacyDB
	} else if db.IsMissing() {
		return mongoerr.New(40571, "OP_MSG requests require a $db argument")
	} else {
		return wrongType("$db", db.Type, TString)
	}
	if err := validDBName(c.DB); err != nil {
		return err
	}
	cmd := c.Node.Table.Lookup(name)
	if cmd == nil || (cmd.Has(TestOnly) && !c.Node.Params.TestCommands()) {
		return mongoerr.New(mongoerr.CommandNotFound, "no such command: '%s'", name)
	}
	c.Command = cmd
	if cmd.Has(Unbuilt) && cmd.Run != nil { // has an error of its own
		return cmd.Run(c)
	}
	if cmd.Has(Unbuilt) {
		return mongoerr.New(mongoerr.CommandNotSupported, "%s is not supported by Cairn: %s", name, cmd.Note)
	}
	if cmd.Has(AdminOnly) && c.DB != "admin" {
		return mongoerr.New(mongoerr.Unauthorized, "%s may only be run against the admin database.", cmd.Name)
	}
	c.soon = c.expect(first)
	if err := c.checkArgs(); err != nil {
		return err
	}
	if c.help {
		c.Reply.Str("help", "help for: "+cmd.Name+" "+cmd.Help)
		return nil
	}
	if err := c.checkGeneric(); err != nil {
		return err
	}
	c.soon.Record()
	if cmd.Has(Hello) {
		if err := c.keepMetadata(); err != nil {
			return err
		}
	}
	c.Op = c.Node.Ops.Begin(c.Context, c.start, c.Client.ID(), c.Client.RemoteAddr(), c.Client.Metadata(), c.Generic.LSID)
	defer c.Op.End()
	if c.Generic.MaxTime > 0 && !(c.Node.Params.TestCommands() && c.Node.Fail.enter("maxTimeNeverTimeOut", func(bson.Raw) bool { return true }) != nil) {
		c.Op.SetMaxTime(c.Generic.MaxTime)
	}
	if id, ok := c.Generic.LSID.Get("id").UUID(); ok {
		c.Node.Sessions.Touch(id, c.Op.Start)
	}
	if !cmd.Has(Quiet) {
		ns := ""
		if first.Type == bson.TypeString && !cmd.Has(AdminOnly) {
			ns = c.DB + "." + first.Str()
			c.ns = ns
		} else {
			ns = c.DB + ".$cmd"
		}
		c.Op.Describe(cmd.Name, ns, c.shown())
	}
	if !cmd.Has(Hello) {
		if stop, err := c.failCommand(); stop || err != nil {
			return err
		}
	}
	defer c.recoverPanic(&err)
	if err := c.runInSession(); err != nil {
		c.waitFailed(err)
		return err
	}
	if err := c.waitWriteConcern(); err != nil {
		return err
	}
	if len(c.wceLabels) > 0 {
		c.Reply.Any("errorLabels", c.wceLabels)
	}
	if c.wceCode != 0 {
		c.Node.writeTopology(c.Reply, c.wceCode)
	}
	return nil
}

// expect says which document the command will ask for, if it is one by its _id: it comes from memory
// while the command is checked.
func (c *Ctx) expect(coll bson.Value) query.Expected {
	if c.Command.Filter == nil || coll.Type != bson.TypeString {
		return query.Expected{}
	}
	f := c.Command.Filter(c)
	if f.Type != bson.TypeDocument {
		return query.Expected{}
	}
	return c.Node.Exec.Expect(query.Namespace{DB: c.DB, Coll: coll.Str()}, f.Doc())
}

// runInSession runs the command; one with a txnNumber has its session to itself
// meanwhile, so that a retry sees all that the first attempt did. The session is free
// again before the command waits for its write concern.
func (c *Ctx) runInSession() error {
	if !c.Generic.HasTxnNumber || c.Node.Retryable == nil {
		return c.Command.Run(c)
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	s, err := c.Node.Retryable.CheckOut(ctx, c.Generic.LSID, c.Generic.TxnNumber)
	if err != nil {
		if ierr := c.Op.Interrupt(); ierr != nil && ctx.Err() != nil {
			return ierr
		}
		return err
	}
	defer s.Release()
	c.Generic.LSID = s.LSID()
	return c.Command.Run(c)
}

func (c *Ctx) recoverPanic(err *error) {
	if p := recover(); p != nil {
		c.Node.Log.Error("command panicked", "command", c.Command.Name, "panic", p, "stack", string(debug.Stack()))
		*err = mongoerr.New(mongoerr.InternalError, "%s ended by an internal error: %v", c.Command.Name, p)
	}
}

// takesSnapshot are the readers that take readConcern snapshot; a getMore reads on as its
// cursor began.
var takesSnapshot = []string{"aggregate", "distinct", "explain", "find", "getMore"}

// checkGeneric refuses combinations of generic arguments that no command takes.
func (c *Ctx) checkGeneric() error {
	g, cmd := &c.Generic, c.Command
	if g.HasTxnNumber && g.LSID == nil {
		return mongoerr.New(mongoerr.InvalidOptions, "Transaction number requires a session ID to also be specified")
	}
	if g.StartTxn && g.Autocommit.IsMissing() {
		return mongoerr.New(mongoerr.InvalidOptions, "Specifying startTransaction=true requires autocommit=false.")
	}
	if !g.Autocommit.IsMissing() {
		if g.Autocommit.Bool() {
			return mongoerr.New(mongoerr.InvalidOptions, "Specifying autocommit=true is not allowed.")
		}
		if !g.HasTxnNumber {
			return mongoerr.New(mongoerr.InvalidOptions, "'autocommit' field requires a transaction number to also be specified")
		}
		// Not IllegalOperation: drivers take that for a server without retryable writes.
		return mongoerr.New(mongoerr.CommandNotSupported, "Multi-document transactions are not supported by this version of Cairn")
	}
	if g.HasTxnNumber && !cmd.Has(Txn) {
		return mongoerr.New(50768, "txnNumber may only be provided for multi-document transactions and retryable write commands. autocommit:false was not provided, and %s is not a retryable write command.", cmd.Name)
	}
	if err := c.checkAPI(); err != nil {
		return err
	}
	if g.ReadConcern.Given && !cmd.Has(Read) && !(g.ReadConcern.Level == "" || g.ReadConcern.Level == "local") {
		return mongoerr.New(mongoerr.InvalidOptions, "Command %s does not support { readConcern: { level: \"%s\" } }", cmd.Name, g.ReadConcern.Level)
	}
	if g.WriteConcern.Given && !cmd.Has(Write) {
		return mongoerr.New(mongoerr.InvalidOptions, "Command does not support writeConcern")
	}
	if g.ReadConcern.Level == "snapshot" && cmd.Has(Read) && !slices.Contains(takesSnapshot, cmd.Name) {
		return mongoerr.New(mongoerr.InvalidOptions, "Command %s does not support { readConcern: { level: \"snapshot\" } }", cmd.Name)
	}
	if err := c.checkMember(); err != nil {
		return err
	}
	if err := c.checkReadOnly(); err != nil {
		return err
	}
	return c.checkWriteConcern()
}

// checkMember refuses data commands on a server that waits to be initiated: it is
// neither primary nor secondary, and what was written to it would be in no set.
func (c *Ctx) checkMember() error {
	repl, cmd := c.Node.Repl, c.Command
	if c.DB == "local" || !cmd.Has(Read) && !cmd.Has(Write) || repl.SetName() == "" || repl.Initiated() {
		return nil
	}
	switch mode := c.Generic.ReadPref.Get("mode").Str(); {
	case !cmd.Has(Read):
		return mongoerr.New(mongoerr.NotWritablePrimary, "not primary")
	case mode == "" || mode == "primary":
		return mongoerr.New(mongoerr.NotPrimaryNoSecondaryOk, "not primary and secondaryOk=false")
	}
	return mongoerr.New(mongoerr.NotPrimaryOrSecondary, "node is not in primary or recovering state")
}

func (c *Ctx) checkAPI() error {
	g := &c.Generic
	if g.APIVersion == "" {
		if g.APIStrict || g.APIDeprecated || !c.Arg("apiStrict").IsMissing() || !c.Arg("apiDeprecationErrors").IsMissing() {
			return mongoerr.New(4886600, "Provided apiStrict and/or apiDeprecationErrors without passing apiVersion")
		}
		return nil
	}
	if g.APIVersion != "1" {
		return mongoerr.New(mongoerr.APIVersionError, "API version must be \"1\"")
	}
	if g.APIStrict && !c.Command.Has(V1) {
		return mongoerr.New(mongoerr.APIStrictError, "Provided apiStrict:true, but the command %s is not in API Version 1. Information on supported commands and migrations in API Version 1 can be found at https://dochub.mongodb.org/core/manual-versioned-api", c.Command.Name)
	}
	if g.APIDeprecated && c.Command.Has(Deprecated) {
		return mongoerr.New(mongoerr.APIDeprecationError, "Provided apiDeprecationErrors:true, but the command %s is deprecated in API Version 1", c.Command.Name)
	}
	if g.APIStrict {
		for _, name := range c.Command.Unstable {
			if !c.Arg(name).IsNullish() {
				return mongoerr.New(mongoerr.APIStrictError, "BSON field '%s.%s' is not allowed with apiStrict:true.", c.Command.Name, name)
			}
		}
	}
	return nil
}

// writeError writes {ok: 0, errmsg, code, codeName …}.
func (n *Node) writeError(c *Ctx, b *bson.Builder, err error) {
	e := n.clientError(c, err)
	b.Double("ok", 0)
	b.Str("errmsg", e.Message)
	b.Int32("code", int32(e.Code))
	b.Str("codeName", e.Code.String())
	if e.Extra != nil {
		b.AppendElems(e.Extra)
	}
	labels := n.labels(c, e)
	if c.failedWCE != nil {
		b.AppendElems(c.failedWCE)
		for _, l := range c.wceLabels {
			if !slices.Contains(labels, l) {
				labels = append(slices.Clip(labels), l)
			}
		}
	}
	if len(labels) > 0 {
		b.Any("errorLabels", labels)
	}
	if n.writeTopology(b, e.Code); c.failedWCE != nil && !slices.Contains(notPrimaryCodes, e.Code) {
		n.writeTopology(b, c.wceCode)
	}
}

// notPrimaryCodes are the errors of a member that is not primary (any more).
var notPrimaryCodes = []mongoerr.Code{189, 10058, 10107, 11602, 13435, 13436}

// writeTopology tells in a reply with such an error of which topology it is: a driver that
// knows a newer one passes it over, one that knows the same has no reason to ask again.
func (n *Node) writeTopology(b *bson.Builder, code mongoerr.Code) {
	if n.Repl.SetName() == "" || !slices.Contains(notPrimaryCodes, code) {
		return
	}
	pid, counter, _ := n.Repl.Topology()
	b.Doc("topologyVersion").ObjectID("processId", pid).Int64("counter", counter).End()
}

// clientError turns any error into one that clients understand.
func (n *Node) clientError(c *Ctx, err error) *mongoerr.Error {
	if e, ok := mongoerr.As(err); ok {
		return e
	}
	if c.Op != nil {
		if ierr := c.Op.Interrupt(); ierr != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			e, _ := mongoerr.As(ierr)
			return e
		}
	}
	if n.MapError != nil {
		if e := n.MapError(err); e != nil {
			return e
		}
	}
	n.Log.Error("command failed", "command", c.name(), "err", err)
	return mongoerr.New(mongoerr.InternalError, "%v", err)
}

func (c *Ctx) name() string {
	if c.Command != nil {
		return c.Command.Name
	}
	name, _ := c.first()
	return name
}

// labels adds RetryableWriteError where a retry of a session's write may help.
func (n *Node) labels(c *Ctx, e *mongoerr.Error) []string {
	labels := e.Labels
	if c.Generic.HasTxnNumber && c.Command != nil && c.Command.Has(Txn) {
		if e.Labels == nil {
			labels = retryLabels(c, e.Code)
		}
	}
	return labels
}

// finish adds what every reply ends with.
func (c *Ctx) finish(err error) {
	b := c.Reply
	if err == nil && !c.skipOK {
		b.Double("ok", 1)
	}
	if name := c.Node.Repl.SetName(); name != "" && c.Command != nil && c.Node.Repl.Initiated() {
		ts, _ := c.Node.Waiter.LastApplied()
		b.Doc("$clusterTime").Timestamp("clusterTime", ts)
		b.Doc("signature").Binary("hash", bson.BinaryGeneric, zeroHash[:]).Int64("keyId", 0).End().End()
		b.Timestamp("operationTime", ts)
	}
}

var zeroHash [20]byte

func (n *Node) count(c *Ctx, err error) {
	if c.Command == nil {
		n.Counters.PerCommand.get("<UNKNOWN>").total.Add(1)
		n.Counters.Asserts.User.Add(1)
		return
	}
	pc := n.Counters.PerCommand.get(c.Command.Name)
	pc.total.Add(1)
	if err != nil || c.wroteErrors {
		pc.failed.Add(1)
	}
	if err != nil {
		n.Counters.Asserts.User.Add(1)
	}
	took := n.Clock().Sub(c.start)
	if c.Op != nil {
		took = max(0, took-c.Op.Query.Stats.Waited)
	}
	switch c.Command.Name {
	case "find", "aggregate", "count", "distinct", "getMore":
		n.Counters.ReadLatency.Add(took)
	case "insert", "update", "delete", "findAndModify", "bulkWrite":
		n.Counters.WriteLatency.Add(took)
	default:
		n.Counters.CommandLatency.Add(took)
	}
	n.Counters.Docs.add(c)
	// A failed command may name anything: its namespace is not counted; nor is that of a drop, which is gone.
	if err != nil || c.Command.Name == "drop" {
	} else if len(c.ns) > len(c.DB)+1 && strings.IndexByte(c.ns, 0) < 0 {
		n.Counters.top.add(c.ns, c.Command.Name, took)
	} else if c.Command.Name == "getMore" {
		n.Counters.top.add(c.DB+"."+c.ArgStr("collection"), "getMore", took)
	}
	n.profile(c, took, err)
}
