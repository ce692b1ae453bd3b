package command

import (
	"crypto/sha256"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/session"
)

var opCommands = []Command{
	{Name: "currentOp", Flags: AdminOnly | AnyArgs, Run: runCurrentOp, Help: "Shows running operations that match its fields."},
	{Name: "killOp", Flags: AdminOnly, Run: runKillOp, Args: []Arg{{"op", TAny, false}}, Help: "Ends an operation."},
	{Name: "fsync", Flags: AdminOnly, Run: runFsync, Args: []Arg{{"lock", TBoolLike, false}, {"async", TBoolLike, false}, {"fsyncLockAcquisitionTimeoutMillis", TNumber, false}}, Help: "Writes everything to disk; with lock: true it blocks writers until fsyncUnlock."},
	{Name: "fsyncUnlock", Flags: AdminOnly, Run: runFsyncUnlock, Help: "Takes one lock of fsync away."},
	{Name: "shutdown", Flags: AdminOnly, Run: runShutdown, Args: []Arg{{"force", TBoolLike, false}, {"timeoutSecs", TNumber, false}}, Help: "Ends the server cleanly."},
	{Name: "logRotate", Flags: AdminOnly, Run: runLogRotate, Help: "Closes the log file and opens a new one."},
	{Name: "configureFailPoint", Flags: AdminOnly | TestOnly, Run: runConfigureFailPoint, Args: []Arg{{"mode", TString | TObject, true}, {"data", TObject, false}}, Help: "Makes commands fail on purpose, for tests."},
	{Name: "testDeprecation", Flags: V1 | Deprecated | TestOnly, Run: runNothing, Help: "Does nothing; a deprecated command of API version 1, for the tests of drivers."},
	{Name: "testVersion1", Flags: V1 | TestOnly, Run: runNothing, Help: "Does nothing; a command of API version 1, for the tests of drivers."},
	{Name: "testVersion2", Flags: TestOnly, Run: runNothing, Help: "Does nothing; a command outside API version 1, for the tests of drivers."},
}

// WriteOp writes one running operation in currentOp's shape.
func (n *Node) WriteOp(b *bson.Builder, i session.Info) {
	n.writeClient(b, i.ConnID, i.Client, i.Metadata)
	took := n.Clock().Sub(i.Start)
	b.Bool("active", true).Str("currentOpTime", n.opTime()).Int32("opid", i.ID)
	if i.Killed {
		b.Bool("killPending", true)
	}
	if lsid := i.Body.Get("lsid"); lsid.Type == bson.TypeDocument {
		b.Append("lsid", lsid)
	}
	b.Int64("secs_running", int64(took.Seconds())).Int64("microsecs_running", took.Microseconds())
	b.Str("op", opName(i.Command)).Str("ns", i.NS).Bool("redacted", false)
	b.Doc("command")
	for k, v := range i.Body.Elems() {
		b.Append(k, v)
	}
	b.End()
	if s := i.Query.PlanSummary(); s != "" {
		b.Str("planSummary", s)
	}
	b.Int32("numYields", 0).Doc("locks").End().Bool("waitingForLock", false).Doc("lockStats").End().Bool("waitingForFlowControl", false).Doc("flowControlStats").End()
}

// writeClient appends what $currentOp says of a connection.
func (n *Node) writeClient(b *bson.Builder, id int64, addr string, metadata bson.Raw) {
	b.Str("type", "op").Str("host", n.Host.Hostname).Str("desc", "conn"+itoa(id)).IntOrLong("connectionId", id).Str("client", addr)
	if app := metadata.Path("application.name"); app.Type == bson.TypeString {
		b.Append("appName", app)
	}
	if metadata != nil {
		b.AppendDoc("clientMetadata", metadata)
	}
}

// opTime is the moment that an operation is shown at.
func (n *Node) opTime() string { return n.Clock().UTC().Format("2006-01-02T15:04:05.000-07:00") }

func opName(cmd string) string {
	switch cmd {
	case "insert", "update":
		return cmd
	case "delete":
		return "remove"
	case "find":
		return "query"
	case "getMore":
		return "getmore"
	}
	return "command"
}

func itoa(n int64) string { return bson.DecimalFromInt64(n).String() }

func runCurrentOp(c *Ctx) error {
	filter := bson.NewBuilder(nil)
	it := c.Body.Iter()
	it.Next()
	for it.Next() {
		switch k := it.Key(); {
		case k == "$all", k == "$ownOps", k == "$truncateOps", genericArg(k) >= 0:
		default:
			filter.Append(k, it.Value())
		}
	}
	match, err := c.Node.Match(filter.Finish())
	if err != nil {
		return err
	}
	c.Reply.Array("inprog")
	docs, err := c.Node.CurrentOp(bson.D("idleConnections", c.Body.Get("$all").Truthy()))
	if err != nil {
		return err
	}
	for _, doc := range docs {
		ok, err := match(doc)
		if err != nil {
			return err
		}
		if ok {
			c.Reply.AppendDoc("", doc)
		}
	}
	c.Reply.End()
	if held := c.Node.fsync.Locked(); held > 0 {
		c.Reply.Bool("fsyncLock", true).Str("info", "use db.fsyncUnlock() to terminate the fsync write/snapshot lock")
	}
	return nil
}

// CurrentOp returns the documents of $currentOp: what runs, and with idleCursors the
// cursors that wait. Without access control everybody sees all.
func (n *Node) CurrentOp(spec bson.Raw) (docs []bson.Raw, err error) {
	for k, v := range spec.Elems() {
		switch k {
		case "allUsers", "idleConnections", "idleCursors", "idleSessions", "localOps", "backtrace", "truncateOps":
			if v.Type != bson.TypeBool {
				return nil, mongoerr.New(mongoerr.FailedToParse, "The '%s' parameter of the $currentOp stage must be a boolean value, but found: %s", k, v.Type)
			}
		default:
			return nil, mongoerr.New(mongoerr.FailedToParse, "Unrecognized option '%s' in $currentOp stage.", k)
		}
	}
	busy := map[int64]bool{}
	for _, i := range n.Ops.Snapshot() {
		b := bson.NewBuilder(nil)
		n.WriteOp(b, i)
		docs = append(docs, b.Finish())
		busy[i.ConnID] = true
	}
	if spec.Get("idleConnections").Truthy() && n.EachClient != nil {
		n.EachClient(func(c Client) {
			if busy[c.ID()] {
				return
			}
			b := bson.NewBuilder(nil)
			n.writeClient(b, c.ID(), c.RemoteAddr(), c.Metadata())
			docs = append(docs, b.Bool("active", false).Str("currentOpTime", n.opTime()).Finish())
		})
	}
	if !spec.Get("idleCursors").Truthy() {
		return docs, nil
	}
	for _, c := range n.Cursors.List() {
		if !c.Idle {
			continue
		}
		b := bson.NewBuilder(nil).Str("type", "idleCursor").Str("host", n.Host.Hostname).Str("ns", c.NS.String())
		if c.LSID != nil {
			b.AppendDoc("lsid", c.LSID)
		}
		b.Doc("cursor").Int64("cursorId", c.ID).Date("createdDate", bson.NewDateTime(c.Created)).Date("lastAccessDate", bson.NewDateTime(c.LastAccess)).
			Int64("nDocsReturned", c.Returned).Int64("nBatchesReturned", c.Batches).Bool("noCursorTimeout", c.NoTimeout).
			Bool("tailable", c.Tailable).Bool("awaitData", c.AwaitData)
		if c.Command != nil {
			b.AppendDoc("originatingCommand", c.Command)
		}
		docs = append(docs, b.End().Finish())
	}
	return docs, nil
}

// ListSessions returns the documents of $listLocalSessions. Without access control all
// sessions are of the nameless user, whose digest stands in every uid.
func (n *Node) ListSessions() (docs []bson.Raw) {
	nobody := sha256.Sum256(nil)
	ids, used := n.Sessions.List()
	for i, id := range ids {
		b := bson.NewBuilder(nil).Doc("_id").UUID("id", id).Binary("uid", bson.BinaryGeneric, nobody[:]).End()
		docs = append(docs, b.Date("lastUse", bson.NewDateTime(used[i])).Finish())
	}
	return docs
}

func runKillOp(c *Ctx) error {
	op := c.Arg("op")
	id, ok := op.AsInt64()
	switch {
	case op.IsMissing():
		return mongoerr.New(mongoerr.NoSuchKey, "Missing expected field \"op\"")
	case !op.IsNumber():
		return mongoerr.New(mongoerr.TypeMismatch, "\"op\" had the wrong type. Expected number, found %s", op.Type)
	case !ok:
		return mongoerr.New(mongoerr.BadValue, "Expected field \"op\" to have a value exactly representable as a 64-bit integer, but found op: %s", op)
	case id != int64(int32(id)):
		return mongoerr.New(26823, "invalid op : %d. Op ID cannot be represented with 32 bits", id)
	}
	c.Node.Ops.Kill(int32(id))
	c.Reply.Str("info", "attempting to kill op")
	return nil
}

func runFsync(c *Ctx) error {
	lock := c.ArgBool("lock", false)
	if lock {
		if c.ArgBool("async", false) {
			return mongoerr.New(mongoerr.FailedToParse, "fsync::async and lock options are not compatible")
		}
		c.Node.fsync.Lock()
	}
	if err := c.Node.Fsync(c); err != nil {
		if lock {
			c.Node.fsync.Unlock()
		}
		return err
	}
	if !lock {
		c.Reply.Int32("numFiles", 1)
		return nil
	}
	c.Reply.Str("info", "now locked against writes, use db.fsyncUnlock() to unlock").Int64("lockCount", c.Node.fsync.Locked()).
		Str("seeAlso", "http://dochub.mongodb.org/core/fsynccommand")
	return nil
}

func runFsyncUnlock(c *Ctx) error {
	left, ok := c.Node.fsync.Unlock()
	if !ok {
		return mongoerr.New(mongoerr.IllegalOperation, "fsyncUnlock called when not locked")
	}
	c.Reply.Str("info", "fsyncUnlock completed").Int64("lockCount", left)
	return nil
}

// Fsynced returns the lock that fsync {lock: true} holds, for rooms that write by themselves (TTL).
func (n *Node) Fsynced() *FsyncLock { return &n.fsync }

func runShutdown(c *Ctx) error {
	if !isLoopback(c.Client.RemoteAddr()) {
		return mongoerr.New(mongoerr.Unauthorized, "shutdown must run from localhost when running db without auth")
	}
	c.Node.Shutdown(c.ArgBool("force", false))
	c.Result.Drop = true // as MongoDB: the connection ends, no reply
	return nil
}

func isLoopback(addr string) bool {
	return len(addr) > 0 && (addr[0] == '/' || addr[0] == '@' || hasPrefixAny(addr, "127.", "[::1]", "anonymous", "localhost"))
}

func hasPrefixAny(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if len(s) >= len(p) && s[:len(p)] == p {
			return true
		}
	}
	return false
}

func runLogRotate(c *Ctx) error {
	if c.Node.RotateLog == nil {
		return nil
	}
	return c.Node.RotateLog()
}

func runNothing(*Ctx) error { return nil }

func runConfigureFailPoint(c *Ctx) error {
	_, v := c.first()
	if v.Type != bson.TypeString {
		return wrongType("configureFailPoint.configureFailPoint", v.Type, TString)
	}
	n, err := c.Node.Fail.Configure(string(append([]byte(nil), v.Str()...)), c.Arg("mode"), c.ArgDoc("data"))
	if err == nil {
		c.Reply.IntOrLong("count", n)
	}
	return err
}

var sessionCommands = []Command{
	{Name: "startSession", Flags: V1, Run: runStartSession, Help: "Makes a session and returns its id."},
	{Name: "endSessions", Flags: V1, Run: runEndSessions, Help: "Ends sessions."},
	{Name: "refreshSessions", Flags: V1, Run: runRefreshSessions, Help: "Keeps sessions for another 30 minutes."},
	{Name: "killSessions", Flags: V1, Run: runKillSessions, Help: "Ends sessions with their cursors and operations."},
	{Name: "killAllSessions", Run: runKillAllSessions, Help: "Ends all sessions of some users."},
	{Name: "killAllSessionsByPattern", Run: runKillAllSessions, Help: "Ends all sessions that match a pattern."},
	{Name: "commitTransaction", Flags: AdminOnly | V1 | Write, Run: notInTransaction, Args: []Arg{{"recoveryToken", TObject, false}}, Help: "Commits a transaction.", Note: "multi-document transactions are not built yet: there is never one to end"},
	{Name: "abortTransaction", Flags: AdminOnly | V1 | Write, Run: notInTransaction, Args: []Arg{{"recoveryToken", TObject, false}}, Help: "Aborts a transaction.", Note: "multi-document transactions are not built yet: there is never one to end"},
}

func notInTransaction(c *Ctx) error {
	return mongoerr.New(125, "%s must be run within a transaction", c.Command.Name)
}

func runStartSession(c *Ctx) error {
	id := c.Node.Sessions.Start(c.Node.Clock())
	c.Reply.Doc("id").UUID("id", id).End().Int32("timeoutMinutes", SessionMinutes)
	return nil
}

// lsids reads the array of {id: UUID} that is the command's own value.
func (c *Ctx) lsids() (ids []bson.UUID, err error) {
	_, v := c.first()
	if v.Type != bson.TypeArray {
		return nil, wrongType(c.Command.Name+"."+c.Command.Name, v.Type, TArray)
	}
	for k, e := range v.Doc().Elems() {
		if e.Type != bson.TypeDocument {
			return nil, wrongType(c.Command.Name+"."+c.Command.Name+"."+k, e.Type, TObject)
		}
		id, ok := e.Doc().Get("id").UUID()
		if !ok {
			return nil, missingField(c.Command.Name + "." + c.Command.Name + ".id")
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func runEndSessions(c *Ctx) error {
	ids, err := c.lsids()
	if err == nil {
		c.Node.Sessions.End(ids)
		c.Node.killSessionWork(func(id bson.UUID) bool { return containsUUID(ids, id) }, c.Op)
	}
	return err
}

func runRefreshSessions(c *Ctx) error {
	ids, err := c.lsids()
	if err == nil {
		c.Node.Sessions.Refresh(ids, c.Node.Clock())
	}
	return err
}

func runKillSessions(c *Ctx) error {
	ids, err := c.lsids()
	if err != nil {
		return err
	}
	c.Node.Sessions.End(ids)
	c.Node.killSessionWork(func(id bson.UUID) bool { return len(ids) == 0 || containsUUID(ids, id) }, c.Op)
	return nil
}

func runKillAllSessions(c *Ctx) error {
	_, v := c.first()
	if v.Type != bson.TypeArray {
		return wrongType(c.Command.Name+"."+c.Command.Name, v.Type, TArray)
	}
	// Without users every session belongs to nobody, whom an empty list or pattern names.
	if v.Doc().IsEmpty() || c.Command.Name == "killAllSessionsByPattern" {
		c.Node.Sessions.EndAll()
		c.Node.killSessionWork(func(bson.UUID) bool { return true }, c.Op)
	}
	return nil
}

func containsUUID(ids []bson.UUID, id bson.UUID) bool {
	for _, i := range ids {
		if i == id {
			return true
		}
	}
	return false
}

// killSessionWork ends operations and cursors of the sessions that match says.
func (n *Node) killSessionWork(match func(bson.UUID) bool, self *session.Operation) {
	of := func(lsid bson.Raw) bool {
		if lsid == nil {
			return false
		}
		id, ok := lsid.Get("id").UUID()
		return ok && match(id)
	}
	n.Ops.KillWhere(mongoerr.Interrupted, func(op *session.Operation) bool { return op != self && of(op.LSID) })
	if n.KillCursors != nil {
		n.KillCursors(of)
	}
}
