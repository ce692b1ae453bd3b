package node

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/command"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// statusSections are the sections of serverStatus that show other rooms' figures.
func (n *Node) statusSections() []command.StatusSection {
	return []command.StatusSection{
		{Name: "connections", Build: n.srv.Metrics().AppendConnections},
		{Name: "network", Build: n.srv.Metrics().AppendNetwork},
		{Name: "storageEngine", Build: n.storageEngineStatus},
		{Name: "wiredTiger", OnRequest: true, Build: n.cacheStatus},
		{Name: "journal", Build: n.journalStatus},
		{Name: "oplog", Build: n.oplogStatus},
		{Name: "logicalSessionRecordCache", Build: func(b *bson.Builder) {
			b.IntOrLong("activeSessionsCount", int64(n.cmds.Sessions.Len()))
		}},
		{Name: "backup", Absent: n.cfg.Backup == nil, Build: func(b *bson.Builder) { n.cfg.Backup.Status(b) }},
		{Name: "repl", Absent: n.cfg.ReplSet == "", Build: n.replStatus},
		{Name: "opcountersRepl", Build: func(b *bson.Builder) {
			for _, k := range []string{"insert", "query", "update", "delete", "getmore", "command"} {
				b.Int64(k, 0)
			}
		}},
	}
}

func (n *Node) storageEngineStatus(b *bson.Builder) {
	s := n.engine.Stats()
	stable := n.seq.LastDurable()
	b.Str("name", "cairn").Bool("supportsCommittedReads", true).Bool("persistent", !n.cfg.InMemory).Bool("readOnly", s.Failure != nil)
	b.Int64("oldestRequiredTimestampForCrashRecovery", 0)
	b.Timestamp("stableTimestamp", stable.TS)
	b.Int64("oldestSnapshotIndex", int64(s.OldestIndex)).IntOrLong("openSnapshots", int64(s.OpenSnapshots))
	b.Timestamp("oldestTimestamp", n.oldestTimestamp())
	b.Int64("diskBytes", int64(s.DiskBytes)).Int64("checkpoints", int64(s.Checkpoints))
	b.Int64("flushes", s.Flushes).Int64("compactions", s.Compactions).Int64("compactionsInProgress", s.CompactionsNow).
		Int64("compactionDebtBytes", int64(s.CompactionDebt)).Int64("l0Files", s.L0Files).IntOrLong("readAmplification", int64(s.ReadAmp)).Int64("writeStalls", int64(s.WriteStalls))
	b.Int64("memtableBytes", int64(s.MemTableBytes)).Int64("memtables", s.MemTableCount)
	b.Doc("cache").Int64("bytes", s.CacheBytes).Int64("maxBytes", s.CacheMaxBytes).Int64("hits", s.CacheHits).Int64("misses", s.CacheMisses).End()
}

// oldestTimestamp is the time of the oldest state that a reader still holds, or the newest one.
func (n *Node) oldestTimestamp() bson.Timestamp {
	if s := n.engine.Stats(); s.OldestIndex != 0 {
		if ts, ok := n.log.TimestampOf(s.OldestIndex); ok {
			return ts
		}
	}
	return n.seq.LastApplied().TS
}

// cacheStatus shows what monitoring tools read of WiredTiger's section, where Cairn has an equal.
func (n *Node) cacheStatus(b *bson.Builder) {
	s := n.engine.Stats()
	b.Doc("cache").Int64("maximum bytes configured", s.CacheMaxBytes).Int64("bytes currently in the cache", s.CacheBytes).End()
}

func (n *Node) journalStatus(b *bson.Builder) {
	m := n.seq.Metrics()
	b.Int64("bytes", n.engine.Stats().JournalBytes).Int64("syncs", int64(m.Journal.Syncs)).Int64("waits", int64(m.Journal.SyncWaits)).
		Double("acksPerSync", m.AcksPerSync()).Int64("groups", int64(m.Groups)).Int64("units", int64(m.Units)).Int64("localUnits", int64(m.LocalUnits))
	b.Timestamp("lastApplied", n.seq.LastApplied().TS).Timestamp("lastDurable", n.seq.LastDurable().TS)
}

func (n *Node) oplogStatus(b *bson.Builder) {
	s := n.log.Stats()
	b.Timestamp("first", s.First).Timestamp("last", s.Last).Int64("count", s.Count).Int64("bytes", s.SizeBytes).Int64("maxBytes", s.MaxBytes).
		Double("minRetentionHours", s.MinRetention.Hours())
	b.Array("pins")
	for _, p := range s.Pins {
		b.Doc("").Str("owner", p.Owner).Timestamp("ts", p.TS).End()
	}
	b.End()
}

func (n *Node) replStatus(b *bson.Builder) {
	if n.set.SetName() == "" || !n.set.Initiated() {
		return
	}
	b.Any("hosts", []string{n.set.Me()}).Str("setName", n.set.SetName()).Append("setVersion", n.set.Config().Get("version")).
		Bool("isWritablePrimary", true).Bool("secondary", false).Str("primary", n.set.Me()).Str("me", n.set.Me()).ObjectID("electionId", n.set.ElectionID())
}

// metrics appends what serverStatus's metrics show of other rooms.
func (n *Node) metrics(b *bson.Builder) {
	s := n.local.Cursors().Stats()
	b.Doc("cursor").Int64("timedOut", s.TimedOut).Int64("totalOpened", s.TotalOpened)
	b.Doc("open").Int64("noTimeout", s.NoTimeout).Int64("pinned", s.Pinned).Int64("total", s.Open).End().End()
	passes, deleted := n.local.TTLStats()
	b.Doc("ttl").Int64("deletedDocuments", deleted).Int64("passes", passes).End()
}

// Parameters returns the server parameters, by name.
func (n *Node) Parameters() []command.Parameter { return n.cmds.Params.Rows() }

// addParameters adds the parameters that other rooms own.
func (n *Node) addParameters() {
	n.addLogLevel()
	p := n.cmds.Params
	p.AddInt("cursorTimeoutMillis", "how long a cursor may stay idle", 1, 1<<40,
		func() int64 { return n.local.Cursors().Timeout().Milliseconds() },
		func(ms int64) { n.local.Cursors().SetTimeout(time.Duration(ms) * time.Millisecond) })
	p.AddBool("ttlMonitorEnabled", "whether expired documents are deleted", func() bool { _, on := n.local.TTL(); return on },
		func(on bool) { every, _ := n.local.TTL(); n.local.SetTTL(every, on) })
	p.AddInt("ttlMonitorSleepSecs", "seconds between two looks for expired documents", 1, 1<<31-1,
		func() int64 { every, _ := n.local.TTL(); return int64(every.Seconds()) },
		func(s int64) { _, on := n.local.TTL(); n.local.SetTTL(time.Duration(s)*time.Second, on) })
	p.AddInt("minSnapshotHistoryWindowInSeconds", "how long what a snapshot read saw can be read again at its atClusterTime", 0, 1<<31-1,
		func() int64 { return int64(n.local.SnapshotWindow().Seconds()) },
		func(s int64) { n.local.SetSnapshotWindow(time.Duration(s) * time.Second) })
	p.AddInt("journalCommitInterval", "milliseconds that a write may stay unsynced when nobody waits", 1, 500,
		func() int64 { return n.seq.CommitInterval().Milliseconds() },
		func(ms int64) { n.seq.SetCommitInterval(time.Duration(ms) * time.Millisecond) })
}

// addLogLevel adds the two names under which MongoDB's verbosity goes. Cairn has one
// level for all its components: 0 or, with debug lines, anything above.
func (n *Node) addLogLevel() {
	level := n.cfg.LogLevel
	if level == nil {
		return
	}
	get := func() int64 {
		if level.Level() < slog.LevelInfo {
			return 1
		}
		return 0
	}
	set := func(v int64) {
		level.Set(slog.LevelInfo)
		if v > 0 {
			level.Set(slog.LevelDebug)
		}
	}
	p := n.cmds.Params
	p.AddInt("logLevel", "0, or above 0 for debug lines", 0, 5, get, set)
	p.Add(command.Parameter{Name: "logComponentVerbosity", Help: "{verbosity: n}, as logLevel",
		Get: func() any { return bson.D("verbosity", int32(get())) },
		Set: func(v bson.Value) error {
			for k := range v.Doc().Elems() {
				if k != "verbosity" {
					return mongoerr.New(mongoerr.BadValue, "Cairn has one verbosity for all components, not one for '%s'", k)
				}
			}
			l, ok := v.Doc().Get("verbosity").AsInt64()
			if !ok || l < 0 || l > 5 {
				return mongoerr.New(mongoerr.BadValue, "Expected verbosity to be a number from 0 to 5")
			}
			set(l)
			return nil
		}})
}

// applyParameters carries out --setParameter.
func (n *Node) applyParameters() error {
	for _, p := range n.cfg.Parameters {
		name, value, _ := cutParameter(p)
		if err := n.cmds.Params.SetAtStart(name, value); err != nil {
			return fmt.Errorf("%w %s: %w", errParameter, p, err)
		}
	}
	return nil
}
