package command

import (
	"context"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Limits and versions that hello reports.
const (
	MaxBSONObjectSize   = 16 << 20
	MaxMessageSizeBytes = 48000000
	MaxWriteBatchSize   = 100000
	MaxWireVersion      = 25
	SessionMinutes      = 30
	maxClientMetadata   = 1024
	maxAppName          = 128
)

var helloArgs = []Arg{
	{Name: "client", Types: TObject}, {Name: "compression", Types: TArray}, {Name: "topologyVersion", Types: TObject},
	{Name: "maxAwaitTimeMS", Types: TNumber}, {Name: "helloOk", Types: TBoolLike}, {Name: "loadBalanced", Types: TBool},
	{Name: "saslSupportedMechs", Types: TString}, {Name: "speculativeAuthenticate", Types: TObject},
	{Name: "internalClient", Types: TObject}, {Name: "hostInfo", Types: TString}, {Name: "forShell", Types: TBoolLike},
	{Name: "hangUpOnStepDown", Types: TBool}, {Name: "backpressure", Types: TBool | TString},
}

var helloCommands = []Command{
	{Name: "hello", Flags: Hello | V1 | Exhaust | Quiet, Args: helloArgs, Run: runHello, Help: "Describes the server and its role; may wait for a change of topology."},
	{Name: "isMaster", Aliases: []string{"ismaster"}, Flags: Hello | Exhaust | Quiet, Args: helloArgs, Run: runHello, Help: "The older name of hello."},
}

// keepMetadata keeps what the client says of itself, before the command begins: a fail
// point for an application's name meets its first hello too.
func (c *Ctx) keepMetadata() error {
	md := c.ArgDoc("client")
	if md == nil {
		return nil
	}
	if c.Client.Metadata() != nil && !c.Legacy {
		return mongoerr.New(mongoerr.ClientMetadataCannotBeMutated, "The client metadata document may only be sent in the first hello")
	}
	if len(md) > maxClientMetadata {
		return mongoerr.New(mongoerr.ClientMetadataDocumentTooLarge, "The client metadata document must be less then or equal to %dbytes", maxClientMetadata)
	}
	if app := md.Path("application.name"); app.Type == bson.TypeString && len(app.Str()) > maxAppName {
		return mongoerr.New(mongoerr.ClientMetadataAppNameTooLarge, "The 'application.name' field in the client metadata document must be less then or equal to %d bytes", maxAppName)
	}
	c.Client.SetMetadata(md.Clone())
	return nil
}

// runHello takes no notice of loadBalanced: a server that is not behind a balancer leaves
// serviceId out, and the driver says so.
func runHello(c *Ctx) error {
	name, _ := c.first()
	legacy := name != "hello"
	if err := c.awaitTopology(); err != nil {
		return err
	}
	// After the wait, as in MongoDB: one that is under way when the fail point is set fails too,
	// and the first hello of a connection has said which application it is of.
	if stop, err := c.failCommand(); stop || err != nil {
		return err
	}
	b, repl := c.Reply, c.Node.Repl
	primary := repl.SetName() == "" || repl.Initiated()
	if c.ArgBool("helloOk", false) {
		b.Bool("helloOk", true)
	}
	pid, counter, _ := repl.Topology()
	b.Doc("topologyVersion").ObjectID("processId", pid).Int64("counter", counter).End()
	if repl.SetName() != "" && repl.Initiated() {
		helloSet(c)
	}
	if legacy {
		b.Bool("ismaster", primary)
	} else {
		b.Bool("isWritablePrimary", primary)
	}
	if repl.SetName() != "" {
		b.Bool("secondary", false)
		if !repl.Initiated() {
			b.Str("info", "Does not have a valid replica set config").Bool("isreplicaset", true)
		}
	}
	b.Int32("maxBsonObjectSize", MaxBSONObjectSize).Int32("maxMessageSizeBytes", MaxMessageSizeBytes).Int32("maxWriteBatchSize", MaxWriteBatchSize)
	b.Date("localTime", bson.NewDateTime(c.Node.Clock()))
	b.Int32("logicalSessionTimeoutMinutes", SessionMinutes)
	b.IntOrLong("connectionId", c.Client.ID())
	b.Int32("minWireVersion", 0).Int32("maxWireVersion", MaxWireVersion).Bool("readOnly", c.Node.ReadOnly.Load())
	if v := c.Arg("compression"); v.Type == bson.TypeArray {
		var offered []string
		for e := range v.Doc().Values() {
			offered = append(offered, e.Str())
		}
		if both := c.Client.NegotiateCompression(offered); len(both) > 0 {
			b.Any("compression", both)
		}
	}
	if user := c.Arg("saslSupportedMechs"); user.Type == bson.TypeString {
		mechs, err := c.Node.Auth.Mechanisms(user.Str())
		if err != nil {
			return err
		}
		b.Any("saslSupportedMechs", mechs)
	}
	return nil
}

// helloSet adds the fields of an initiated replica set's member.
func helloSet(c *Ctx) {
	b, repl := c.Reply, c.Node.Repl
	cfg := repl.Config()
	b.Array("hosts")
	var tags bson.Raw
	for m := range cfg.Get("members").Doc().Values() {
		b.Append("", m.Doc().Get("host"))
		tags = m.Doc().Get("tags").Doc()
	}
	b.End()
	b.Str("setName", repl.SetName())
	b.Append("setVersion", cfg.Get("version"))
	b.Str("primary", repl.Me()).Str("me", repl.Me())
	if !tags.IsEmpty() && tags != nil {
		b.AppendDoc("tags", tags)
	}
	b.ObjectID("electionId", repl.ElectionID())
	at, aterm := c.Node.Waiter.LastApplied()
	dt, dterm := c.Node.Waiter.LastDurable()
	b.Doc("lastWrite")
	b.Doc("opTime").Timestamp("ts", at).Int64("t", aterm).End()
	b.Date("lastWriteDate", bson.DateTime(int64(at.Seconds())*1000))
	b.Doc("majorityOpTime").Timestamp("ts", dt).Int64("t", dterm).End()
	b.Date("majorityWriteDate", bson.DateTime(int64(dt.Seconds())*1000))
	b.End()
}

// awaitTopology waits, when asked to, until the topology differs from the client's or
// maxAwaitTimeMS is over, and prepares the next reply of a streaming hello.
func (c *Ctx) awaitTopology() error {
	tv, wait := c.ArgDoc("topologyVersion"), c.Arg("maxAwaitTimeMS")
	if tv == nil && wait.IsMissing() {
		return nil
	}
	if tv == nil || wait.IsMissing() {
		return mongoerr.New(31368, "A request with %s must include %s", pick(tv != nil, "a 'topologyVersion'", "'maxAwaitTimeMS'"), pick(tv != nil, "'maxAwaitTimeMS'", "a 'topologyVersion'"))
	}
	ms := c.ArgInt("maxAwaitTimeMS", 0)
	if ms < 0 {
		return mongoerr.New(31373, "maxAwaitTimeMS must be a non-negative integer")
	}
	for _, f := range []Arg{{"processId", TObjectID, true}, {"counter", TLong, true}} {
		v, name := tv.Get(f.Name), "hello.topologyVersion."+f.Name
		if v.IsMissing() {
			return missingField(name)
		}
		if !f.Types.Allows(v.Type) {
			return wrongType(name, v.Type, f.Types)
		}
	}
	theirs := tv.Get("counter").Int64()
	if theirs < 0 {
		return mongoerr.New(31372, "topologyVersion must have a non-negative counter")
	}
	pid, counter, changed := c.Node.Repl.Topology()
	if tv.Get("processId").ObjectID() == pid {
		if theirs > counter {
			return mongoerr.New(31382, "Received a topology version with counter: %d which is greater than the server topology version counter: %d", theirs, counter)
		}
		if theirs == counter {
			ctx, cancelOp := c.Op.Context()
			wait, cancel := context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
			select {
			case <-changed:
			case <-wait.Done():
			}
			cancel()
			cancelOp()
			if err := c.Op.Interrupt(); err != nil {
				return err
			}
		}
	}
	if c.ExhaustOK {
		pid, counter, _ = c.Node.Repl.Topology()
		c.Result.Next = replaceField(c.Body, "topologyVersion", bson.V(bson.D("processId", pid, "counter", counter)))
	}
	return nil
}

// replaceField copies doc with the value of one field replaced.
func replaceField(doc bson.Raw, field string, v bson.Value) bson.Raw {
	b := bson.NewBuilder(make([]byte, 0, len(doc)+16))
	for k, old := range doc.Elems() {
		if k == field {
			old = v
		}
		b.Append(k, old)
	}
	return b.Finish()
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}
