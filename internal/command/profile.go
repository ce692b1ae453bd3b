package command

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
)

var profileCommands = []Command{
	{Name: "profile", Run: runProfile, Args: []Arg{{"slowms", TNumber, false}, {"sampleRate", TNumber, false}, {"filter", TObject | TString, false}}, Help: "Shows or sets the profiler of a database: 0 off, 1 slow operations, 2 all; -1 only shows."},
}

// Profiler keeps the profiling levels, logs slow operations and writes system.profile.
type Profiler struct {
	mu     sync.Mutex
	levels map[string]int64
	slow   time.Duration
	rate   float64
	filter bson.Raw
	match  func(bson.Raw) (bool, error)
}

// NewProfiler returns one with MongoDB's defaults: level 0, 100 ms, all of the slow ones.
func NewProfiler() *Profiler {
	return &Profiler{levels: map[string]int64{}, slow: 100 * time.Millisecond, rate: 1}
}

func runProfile(c *Ctx) error {
	_, v := c.first()
	level, ok := v.AsInt64()
	if !ok {
		return wrongType("profile.profile", v.Type, TNumber)
	}
	p := c.Node.Profiler
	p.mu.Lock()
	defer p.mu.Unlock()
	c.noProfile = p.levels[c.DB] == 0
	c.Reply.IntOrLong("was", p.levels[c.DB]).IntOrLong("slowms", p.slow.Milliseconds()).Double("sampleRate", p.rate)
	if p.filter != nil {
		c.Reply.AppendDoc("filter", p.filter).Str("note", "When a filter expression is set, slowms and sampleRate are not used for profiling and slow-query log lines.")
	}
	if level == -1 || level < -1 || level > 2 {
		if level != -1 {
			return mongoerr.New(mongoerr.BadValue, "BSON field 'profile' value must be >= -1 and <= 2, actual value '%d'", level)
		}
	}
	rate, hasRate := c.Arg("sampleRate").AsFloat64()
	if hasRate && (rate < 0 || rate > 1) {
		return mongoerr.New(mongoerr.BadValue, "'sampleRate' must be between 0.0 and 1.0 inclusive")
	}
	switch f := c.Arg("filter"); f.Type {
	case bson.TypeString:
		if f.Str() != "unset" {
			return mongoerr.New(mongoerr.BadValue, "Expected an object, or the string 'unset'.")
		}
		p.filter, p.match = nil, nil
	case bson.TypeDocument:
		match, err := c.Node.Match(f.Doc().Clone())
		if err != nil {
			return err
		}
		p.filter, p.match = f.Doc().Clone(), match
	}
	if level >= 0 {
		if c.DB == "local" && level > 0 {
			return mongoerr.New(mongoerr.BadValue, "Cannot profile the database local")
		}
		p.levels[strings.Clone(c.DB)] = level
	}
	if hasRate {
		p.rate = rate
	}
	if v := c.Arg("slowms"); !v.IsNullish() {
		p.slow = time.Duration(c.ArgInt("slowms", 100)) * time.Millisecond
	}
	return nil
}

// SlowMS returns the bound of slow operations.
func (p *Profiler) SlowMS() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slow.Milliseconds()
}

// wants decides whether an operation is logged and whether it is profiled.
func (p *Profiler) wants(db string, took time.Duration) (log, profile, byFilter bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	level := p.levels[db]
	if p.match != nil {
		return true, level > 0, true
	}
	slow := took >= p.slow && (p.rate >= 1 || rand.Float64() < p.rate)
	return slow, level == 2 || (level == 1 && slow), false
}

// on reports whether the profiler of a database may record something.
func (p *Profiler) on(db string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.levels[db] > 0
}

// profiled is what one entry of system.profile is about: a command, or one statement of it.
type profiled struct {
	command   bson.Raw
	took      time.Duration
	stats     query.OpStats
	err       error
	statement bool
}

// profileStatements sees to it that the statements of an update or delete are recorded each
// by itself, as MongoDB does, if the profiler is on.
func (c *Ctx) profileStatements(op *query.OpContext) {
	if c.Node.Profiler == nil || !c.Node.Profiler.on(c.DB) {
		return
	}
	docs, err := c.batch(c.Command.Name + "s")
	if err != nil {
		return
	}
	began, before := c.Node.Clock(), op.Stats
	op.EachStatement = func(i int, err error) {
		now, st := c.Node.Clock(), op.Stats
		st.KeysExamined -= before.KeysExamined
		st.DocsExamined -= before.DocsExamined
		st.NMatched -= before.NMatched
		st.NModified -= before.NModified
		st.NDeleted -= before.NDeleted
		st.NumYields -= before.NumYields
		c.statements = append(c.statements, profiled{c.statementShown(docs[i]), now.Sub(began), st, err, true})
		began, before = now, op.Stats
	}
}

// statementShown is a statement as system.profile shows it: with its defaults and the
// command's comment, a hint by name as {$hint: name}.
func (c *Ctx) statementShown(d bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	for k, v := range d.Elems() {
		if k == "hint" && v.Type == bson.TypeString {
			b.Doc(k).Append("$hint", v).End()
			continue
		}
		b.Append(k, v)
	}
	if c.Command.Name == "update" {
		for _, k := range []string{"multi", "upsert"} {
			if !d.Has(k) {
				b.Bool(k, false)
			}
		}
	}
	if !c.Generic.Comment.IsMissing() {
		b.Append("comment", c.Generic.Comment)
	}
	return b.Finish()
}

// profile logs and records a finished command as the database's level says.
func (n *Node) profile(c *Ctx, took time.Duration, err error) {
	if c.Command.Has(Quiet) || n.Profiler == nil {
		return
	}
	for _, s := range c.statements {
		n.profileOne(c, s)
	}
	whole := profiled{command: c.shown(), took: took, err: err}
	if c.Op != nil {
		whole.stats = c.Op.Query.Stats
	}
	n.profileOne(c, whole)
}

// profileOne logs and records a command or one of its statements. A command whose statements
// are recorded is logged only.
func (n *Node) profileOne(c *Ctx, what profiled) {
	log, profile, byFilter := n.Profiler.wants(c.DB, what.took)
	log = log && !what.statement
	profile = profile && !c.noProfile && (what.statement || len(c.statements) == 0)
	if !log && !profile {
		return
	}
	doc := n.profileDoc(c, what)
	if byFilter {
		n.Profiler.mu.Lock()
		match := n.Profiler.match
		n.Profiler.mu.Unlock()
		if match == nil {
			return
		}
		if ok, merr := match(doc); !ok || merr != nil {
			return
		}
	}
	if log {
		n.Log.LogAttrs(context.Background(), slog.LevelInfo, "slow query", slog.String("ns", doc.Get("ns").Str()), slog.String("command", c.Command.Name),
			slog.String("plan_summary", doc.Get("planSummary").Str()), slog.Int64("millis", what.took.Milliseconds()), slog.Int64("connection_id", c.Client.ID()))
	}
	// Who follows system.profile with a cursor would else see that, and nothing but that.
	follows := c.Command.Name == "getMore" && strings.HasSuffix(doc.Get("ns").Str(), ".system.profile")
	if profile && !follows {
		if perr := n.writeProfile(c.DB, doc); perr != nil {
			n.Log.Warn("profile entry not written", "db", c.DB, "err", perr)
		}
	}
}

// profileDoc is one document of system.profile.
func (n *Node) profileDoc(c *Ctx, what profiled) bson.Raw {
	b := bson.NewBuilder(nil)
	_, v := c.first()
	ns := c.DB + ".$cmd"
	switch {
	case c.Command.Name == "getMore":
		ns = c.DB + "." + c.ArgStr("collection")
	case v.Type == bson.TypeString:
		ns = c.DB + "." + v.Str()
	}
	b.Str("op", opName(c.Command.Name)).Str("ns", ns).Doc("command")
	for k, e := range what.command.Elems() {
		if len(e.Data) < 50<<10 {
			b.Append(k, e)
		}
	}
	b.End()
	st := &what.stats
	if st.CursorID != 0 {
		b.Int64("cursorid", st.CursorID)
	}
	b.IntOrLong("keysExamined", st.KeysExamined).IntOrLong("docsExamined", st.DocsExamined)
	if st.HasSortStage {
		b.Bool("hasSortStage", true)
	}
	if st.Exhausted {
		b.Bool("cursorExhausted", true)
	}
	switch c.Command.Name {
	case "insert":
		b.IntOrLong("ninserted", st.NInserted)
	case "update", "findAndModify":
		b.IntOrLong("nMatched", st.NMatched).IntOrLong("nModified", st.NModified)
	case "delete":
		b.IntOrLong("ndeleted", st.NDeleted)
	}
	b.IntOrLong("numYield", st.NumYields).IntOrLong("nreturned", st.NReturned)
	if st.QueryHash != "" {
		b.Str("queryHash", st.QueryHash).Str("planCacheKey", st.PlanCacheKey)
	}
	b.Doc("locks").End()
	if !what.statement {
		b.IntOrLong("responseLength", int64(c.Reply.Len()))
	}
	b.Str("protocol", "op_msg").IntOrLong("millis", what.took.Milliseconds())
	if st.PlanSummary != "" {
		b.Str("planSummary", st.PlanSummary)
	}
	if what.err != nil {
		e := n.clientError(c, what.err)
		b.Bool("ok", false).Str("errMsg", e.Message).Str("errName", e.Code.String()).Int32("errCode", int32(e.Code))
	}
	b.Date("ts", bson.NewDateTime(n.Clock())).Str("client", c.Client.RemoteAddr())
	if app := c.Client.Metadata().Path("application.name"); app.Type == bson.TypeString {
		b.Append("appName", app)
	}
	return b.Array("allUsers").End().Str("user", "").Finish()
}

// writeProfile inserts into system.profile, which is made, capped at 1 MB, at its first use.
func (n *Node) writeProfile(db string, doc bson.Raw) error {
	op := query.NewOpContext(context.Background())
	if err := n.EnsureProfile(op, db); err != nil {
		return err
	}
	rep, err := n.Exec.Insert(op, &query.InsertRequest{NS: query.Namespace{DB: db, Coll: "system.profile"}, Documents: []bson.Raw{doc}, BypassValidation: true, System: true})
	if err == nil && len(rep.Errors) > 0 {
		err = rep.Errors[0].Err
	}
	return err
}
