package command

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

var replCommands = []Command{
	{Name: "replSetGetStatus", Flags: AdminOnly, Run: runReplSetGetStatus, Args: []Arg{{"initialSync", TNumber, false}}, Help: "Shows the replica set as this member sees it."},
	{Name: "replSetGetConfig", Flags: AdminOnly, Run: runReplSetGetConfig, Args: []Arg{{"commitmentStatus", TBool, false}}, Help: "Shows the replica set's configuration."},
	{Name: "replSetInitiate", Flags: AdminOnly, Run: runReplSetInitiate, Help: "Begins a replica set with this server as its first member."},
	{Name: "replSetReconfig", Flags: AdminOnly, Run: runReplSetReconfig, Args: []Arg{{"force", TBoolLike, false}}, Help: "Changes the replica set's configuration."},
	{Name: "replSetStepDown", Flags: AdminOnly | Unbuilt, Note: "a set of one member has nobody to step down for", Help: "Gives up being primary."},
	{Name: "replSetFreeze", Flags: AdminOnly | Unbuilt, Note: "a set of one member holds no elections", Help: "Keeps a member from elections."},
	{Name: "replSetSyncFrom", Flags: AdminOnly | Unbuilt, Note: "a set of one member has no source", Help: "Chooses a member's source."},
	{Name: "replSetMaintenance", Flags: AdminOnly | Unbuilt, Note: "a set of one member cannot leave its role", Help: "Makes a secondary recover."},
	{Name: "getDefaultRWConcern", Flags: AdminOnly, Run: runGetDefaultRWConcern, Args: []Arg{{"inMemory", TBool, false}}, Help: "Shows the default read and write concern.", Note: "the defaults are MongoDB 8.0's and fixed"},
	{Name: "replSetGetRBID", Flags: AdminOnly, Run: func(c *Ctx) error { c.Reply.Int32("rbid", 1); return needSet(c) }, Help: "Shows the number of rollbacks, 1 for none."},
	{Name: "replSetResizeOplog", Flags: AdminOnly, Run: runReplSetResizeOplog, Args: []Arg{{"size", TNumber, false}, {"minRetentionHours", TNumber, false}}, Help: "Changes the size of the oplog in megabytes."},
}

// needSet refuses on a server that is no member of an initiated set.
func needSet(c *Ctx) error {
	if c.Node.Repl.SetName() == "" {
		return mongoerr.New(mongoerr.NoReplicationEnabled, "not running with --replSet")
	}
	if !c.Node.Repl.Initiated() {
		return mongoerr.New(mongoerr.NotYetInitialized, "no replset config has been received")
	}
	return nil
}

func opTimeDoc(b *bson.Builder, name string, ts bson.Timestamp, term int64) {
	b.Doc(name).Timestamp("ts", ts).Int64("t", term).End()
}

func tsDate(ts bson.Timestamp) bson.DateTime { return bson.DateTime(int64(ts.Seconds()) * 1000) }

func runReplSetGetStatus(c *Ctx) error {
	if err := needSet(c); err != nil {
		return err
	}
	n, b, repl := c.Node, c.Reply, c.Node.Repl
	at, aterm := n.Waiter.LastApplied()
	dt, dterm := n.Waiter.LastDurable()
	now := bson.NewDateTime(n.Clock())
	cfg := repl.Config()
	b.Str("set", repl.SetName()).Date("date", now).Int32("myState", 1).Int64("term", repl.Term()).
		Str("syncSourceHost", "").Int32("syncSourceId", -1).Int64("heartbeatIntervalMillis", 2000).
		Int32("majorityVoteCount", 1).Int32("writeMajorityCount", 1).Int32("votingMembersCount", 1).Int32("writableVotingMembersCount", 1)
	b.Doc("optimes")
	opTimeDoc(b, "lastCommittedOpTime", dt, dterm)
	b.Date("lastCommittedWallTime", tsDate(dt))
	opTimeDoc(b, "readConcernMajorityOpTime", dt, dterm)
	opTimeDoc(b, "appliedOpTime", at, aterm)
	opTimeDoc(b, "durableOpTime", dt, dterm)
	opTimeDoc(b, "writtenOpTime", at, aterm)
	b.Date("lastAppliedWallTime", tsDate(at)).Date("lastDurableWallTime", tsDate(dt)).Date("lastWrittenWallTime", tsDate(at)).End()
	b.Timestamp("lastStableRecoveryTimestamp", dt)
	b.Doc("electionCandidateMetrics").Str("lastElectionReason", "electionTimeout").Date("lastElectionDate", tsDate(repl.ElectionTime())).
		Int64("electionTerm", repl.Term()).Int32("numVotesNeeded", 1).Double("priorityAtElection", 1).Int64("electionTimeoutMillis", 10000).End()
	b.Array("members")
	for m := range cfg.Get("members").Doc().Values() {
		d := m.Doc()
		b.Doc("").Append("_id", d.Get("_id")).Append("name", d.Get("host")).Double("health", 1).Int32("state", 1).Str("stateStr", "PRIMARY").
			IntOrLong("uptime", int64(n.Clock().Sub(n.Host.Started).Seconds()))
		opTimeDoc(b, "optime", at, aterm)
		b.Date("optimeDate", tsDate(at))
		opTimeDoc(b, "optimeWritten", at, aterm)
		b.Date("optimeWrittenDate", tsDate(at))
		b.Date("lastAppliedWallTime", tsDate(at)).Date("lastDurableWallTime", tsDate(dt)).Date("lastWrittenWallTime", tsDate(at)).
			Str("syncSourceHost", "").Int32("syncSourceId", -1).Str("infoMessage", "").
			Timestamp("electionTime", repl.ElectionTime()).Date("electionDate", tsDate(repl.ElectionTime())).
			Append("configVersion", cfg.Get("version")).Append("configTerm", cfg.Get("term")).Bool("self", true).Str("lastHeartbeatMessage", "").End()
	}
	b.End()
	return nil
}

func runReplSetGetConfig(c *Ctx) error {
	if err := needSet(c); err != nil {
		return err
	}
	c.Reply.AppendDoc("config", c.Node.Repl.Config())
	if c.ArgBool("commitmentStatus", false) {
		c.Reply.Bool("commitmentStatus", true) // the only member has it
	}
	return nil
}

func runGetDefaultRWConcern(c *Ctx) error {
	if c.Node.Repl.SetName() == "" {
		return mongoerr.New(51301, "'getDefaultRWConcern' is not supported on standalone nodes.")
	}
	c.Reply.AppendDoc("defaultReadConcern", bson.D("level", "local")).AppendDoc("defaultWriteConcern", bson.D("w", "majority", "wtimeout", 0)).
		Str("defaultReadConcernSource", "implicit").Str("defaultWriteConcernSource", "implicit").Date("localUpdateWallClockTime", bson.NewDateTime(c.Node.Host.Started))
	return nil
}

func runReplSetInitiate(c *Ctx) error {
	if c.Node.Repl.SetName() == "" {
		return mongoerr.New(mongoerr.NoReplicationEnabled, "This node was not started with replication enabled.")
	}
	_, v := c.first()
	cfg := v.Doc()
	if cfg.IsEmpty() {
		cfg = nil
	}
	if cfg == nil {
		c.Reply.Str("info2", "no configuration specified. Using a default configuration for the set").Str("me", c.Node.Repl.Me())
	}
	return c.Node.Repl.Initiate(c, cfg)
}

func runReplSetReconfig(c *Ctx) error {
	if err := needSet(c); err != nil {
		return err
	}
	_, v := c.first()
	if v.Type != bson.TypeDocument {
		return mongoerr.New(mongoerr.BadValue, "no configuration specified")
	}
	return c.Node.Repl.Reconfig(c, v.Doc(), c.ArgBool("force", false))
}

func runReplSetResizeOplog(c *Ctx) error {
	size, hours := c.Arg("size"), c.Arg("minRetentionHours")
	if size.IsNullish() && hours.IsNullish() {
		return mongoerr.New(mongoerr.InvalidOptions, "Either size or minRetentionHours must be specified")
	}
	mb, _ := size.AsFloat64()
	if !size.IsNullish() && !(mb >= 990 && mb <= 1<<50/(1<<20)) {
		if !(mb >= 990) { // or not a number
			return mongoerr.New(mongoerr.BadValue, "BSON field 'size' value must be >= 990.000000, actual value '%f'", mb)
		}
		return mongoerr.New(mongoerr.BadValue, "BSON field 'size' value must be <= %f, actual value '%f'", float64(1<<50/(1<<20)), mb)
	}
	h, _ := hours.AsFloat64()
	if !(h >= 0) {
		return mongoerr.New(mongoerr.BadValue, "BSON field 'minRetentionHours' value must be >= 0.000000, actual value '%f'", h)
	}
	var bytes *int64
	var ret *float64
	if !size.IsNullish() {
		n := int64(mb * (1 << 20))
		bytes = &n
	}
	if !hours.IsNullish() {
		ret = &h
	}
	return c.Node.ResizeOplog(bytes, ret)
}
