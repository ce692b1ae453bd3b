package node

import (
	"context"
	"fmt"
	"os"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/query"
	"github.com/cairndb/cairn/internal/repl"
)

// Collections of `local` that the node keeps for itself.
const (
	replsetColl  = "system.replset"
	electionColl = "replset.election"
	startupColl  = "startup_log"
	startupBytes = 10 << 20
)

// loadLocal returns the first document of local.coll, nil if there is none.
func (n *Node) loadLocal(coll string) (bson.Raw, error) {
	b := bson.NewBuilder(nil)
	err := n.local.Find(query.NewOpContext(context.Background()), &query.FindRequest{NS: query.Namespace{DB: "local", Coll: coll}, Limit: 1, SingleBatch: true}, b)
	if err != nil {
		return nil, err
	}
	_, v := b.Finish().Path("cursor.firstBatch").Doc().First()
	return v.Doc().Clone(), nil
}

// saveLocal replaces the only document of local.coll and syncs it.
func (n *Node) saveLocal(ctx context.Context, coll string, doc bson.Raw) error {
	rep, err := n.local.Update(query.NewOpContext(ctx), &query.UpdateRequest{
		NS:               query.Namespace{DB: "local", Coll: coll},
		Updates:          []query.UpdateStatement{{Q: bson.D("_id", doc.Get("_id")), U: doc.Value(), Upsert: true}},
		BypassValidation: true,
	})
	if err == nil && len(rep.Errors) > 0 {
		err = rep.Errors[0].Err
	}
	if err != nil {
		return fmt.Errorf("local.%s: %w", coll, err)
	}
	return n.seq.Sync(ctx)
}

// openReplSet takes the next term and opens the replica set's state.
func (n *Node) openReplSet(ctx context.Context) error {
	term := int64(1)
	vote, err := n.loadLocal(electionColl)
	if err != nil {
		return err
	}
	if old, ok := vote.Get("term").AsInt64(); ok {
		term = old + 1
	}
	if n.cfg.ReplSet != "" || vote != nil {
		if err := n.saveLocal(ctx, electionColl, bson.D("_id", "lastVote", "term", term, "candidateIndex", int64(0))); err != nil {
			return err
		}
	}
	n.seq.SetTerm(term)
	n.set, err = repl.Open(n.cfg.ReplSet, n.cfg.hostPort(n.port), term, n.cfg.Clock(), repl.Store{
		LoadConfig: func() (bson.Raw, error) { return n.loadLocal(replsetColl) },
		SaveConfig: func(ctx context.Context, cfg bson.Raw) error { return n.saveLocal(ctx, replsetColl, cfg) },
		Initiated: func(ctx context.Context) error {
			if err := n.logNoop(ctx, oplog.InitiatingSet()); err != nil {
				return err
			}
			return n.auth.EnsureFeatureVersion(ctx)
		},
		ConfigChanged: func(ctx context.Context, cfg bson.Raw) error {
			v := cfg.Get("version")
			return n.logNoop(ctx, oplog.NoopEntry(bson.D("msg", "Reconfig set", "version", v)))
		},
	})
	if err != nil {
		return err
	}
	if n.cfg.ReplSetAutoInitiate && !n.set.Initiated() {
		return n.set.Initiate(ctx, nil)
	}
	if n.set.Initiated() {
		if n.cfg.AnyPort {
			if err := n.set.MoveTo(ctx, n.cfg.hostPort(n.port)); err != nil {
				return err
			}
		}
		if err := n.retryable.EnsureCollections(ctx); err != nil {
			return err
		}
		return n.logNoop(ctx, oplog.NoopEntry(bson.D("msg", "new primary")))
	}
	return nil
}

func (n *Node) logNoop(ctx context.Context, e oplog.Entry) error {
	f, err := n.seq.WriteNoop(e)
	if err != nil {
		return err
	}
	return f.WaitJournaled(ctx)
}

// ensureCapped makes a capped collection if it is not there.
func (n *Node) ensureCapped(ctx context.Context, ns catalog.Namespace, size int) error {
	if n.catalog.Pin().Exists(ns) {
		return nil
	}
	_, err := n.catalog.Create(ctx, ns, bson.D("capped", true, "size", size))
	if mongoerr.Is(err, mongoerr.NamespaceExists) {
		return nil
	}
	return err
}

// startupLog adds this start to local.startup_log.
func (n *Node) startupLog(ctx context.Context) error {
	if err := n.ensureCapped(ctx, catalog.Namespace{DB: "local", Coll: startupColl}, startupBytes); err != nil {
		return err
	}
	err := n.writeStartupLog(ctx, n.cfg.Clock().UnixMilli())
	for late := int64(1); mongoerr.CodeOf(err) == mongoerr.DuplicateKey && late < 1000; late++ {
		err = n.writeStartupLog(ctx, n.cfg.Clock().UnixMilli()+late) // two starts within a millisecond, or a clock stepped back
	}
	return err
}

func (n *Node) writeStartupLog(ctx context.Context, millis int64) error {
	host := n.cmds.Host
	b := bson.NewBuilder(nil)
	b.Str("_id", fmt.Sprintf("%s-%d", host.Hostname, millis)).Str("hostname", host.Hostname).
		Date("startTime", bson.NewDateTime(host.Started)).Str("startTimeLocal", host.Started.Format("Mon Jan _2 15:04:05.000")).
		AppendDoc("cmdLine", n.cmds.CmdLine.Parsed).Int64("pid", int64(os.Getpid()))
	b.Doc("buildinfo").Str("version", MongoVersion).Str("gitVersion", n.cfg.Commit).Str("cairn", n.cfg.Version).End()
	rep, err := n.local.Insert(query.NewOpContext(ctx), &query.InsertRequest{NS: query.Namespace{DB: "local", Coll: startupColl}, Documents: []bson.Raw{b.Finish()}})
	if err == nil && len(rep.Errors) > 0 {
		err = rep.Errors[0].Err
	}
	return err
}
