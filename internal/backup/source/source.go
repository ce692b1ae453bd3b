package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/cairndb/cairn/internal/backup/batch"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// Source is the oplog of one server or replica set. Its methods may be called by several
// goroutines; its fields are set before.
type Source struct {
	// Pace is how long Tail waits, once it has caught up, before it asks for more: each
	// question costs the server a sync of its journal and a reply, entries that have
	// gathered cost little. Default 100 ms; negative: not at all.
	Pace time.Duration
	// StaleWait is how long a server that does not have the newest delivered entry yet may
	// lag (a member that was restarted, a secondary) before it is called rolled back.
	// Default 30 s.
	StaleWait time.Duration
	// GiveUp is how long Tail and Read go on while no server answers; 0 is for ever.
	GiveUp time.Duration
	// Dialer is the one that makes the client's connections, if it is a batch.Dialer: entries
	// are then read past the driver where that can be done. nil: through the driver.
	Dialer *batch.Dialer
	// OnRetry is told of each error that Tail and Read go on after, with the pause
	// before the next attempt; nil: nobody.
	OnRetry func(err error, pause time.Duration)

	client *mongo.Client
	name   string // of the collection in local
	set    string // the replica set's name, "" outside of one
	old    bool   // older than 4.4: a find must be told that it reads an oplog
	// bounded tells that the server has no majority reads: entries are held back until
	// the majority point has passed them.
	bounded bool
}

// Open looks for the oplog of a server. It fails with ErrMongos or ErrNoOplog, or with
// what connecting fails with.
func Open(ctx context.Context, client *mongo.Client) (*Source, error) {
	s := &Source{client: client}
	hello, err := s.run(ctx, "admin", bson.D("hello", 1))
	if err != nil { // before 4.4.2
		if hello, err = s.run(ctx, "admin", bson.D("isMaster", 1)); err != nil {
			return nil, err
		}
	}
	if hello.Get("msg").Str() == "isdbgrid" {
		return nil, ErrMongos
	}
	s.set = hello.Get("setName").Str()
	if v, ok := hello.Get("maxWireVersion").AsInt64(); ok {
		s.old = v < 9
	}
	if s.name, err = s.find(ctx); err != nil {
		return nil, err
	}
	if s.set != "" {
		_, err := s.edge(ctx, -1)
		if isCode(err, 148) { // ReadConcernMajorityNotEnabled
			s.bounded = true
		}
	}
	return s, nil
}

// find names the collection.
func (s *Source) find(ctx context.Context) (string, error) {
	reply, err := s.run(ctx, "local", bson.D("listCollections", 1, "nameOnly", true,
		"filter", bson.D("name", bson.D("$in", bson.A("oplog.rs", "oplog.$main")))))
	if err != nil {
		return "", fmt.Errorf("looking for the oplog: %w", err)
	}
	name := ""
	for c := range reply.Path("cursor.firstBatch").Doc().Values() {
		if n := c.Doc().Get("name").Str(); n == "oplog.rs" || name == "" {
			name = strings.Clone(n)
		}
	}
	if name == "" {
		return "", ErrNoOplog
	}
	return name, nil
}

// Namespace is where the oplog is: local.oplog.rs or local.oplog.$main.
func (s *Source) Namespace() string { return "local." + s.name }

// SetName is the name of the replica set, "" of a server outside of one.
func (s *Source) SetName() string { return s.set }

func (s *Source) run(ctx context.Context, db string, cmd bson.Raw) (bson.Raw, error) {
	raw, err := s.client.Database(db).RunCommand(ctx, dbson.Raw(cmd)).Raw()
	return bson.Raw(raw), err
}

// coll is the oplog as it is read: majority-committed entries on a replica set.
func (s *Source) coll(level *readconcern.ReadConcern) *mongo.Collection {
	return s.client.Database("local", options.Database().SetReadConcern(level)).Collection(s.name)
}

func (s *Source) majority() *readconcern.ReadConcern {
	if s.set == "" || s.bounded {
		return readconcern.Local()
	}
	return readconcern.Majority()
}

// edge is the newest (dir -1) or oldest (1) entry.
func (s *Source) edge(ctx context.Context, dir int) (bson.Raw, error) {
	return s.one(ctx, s.majority(), bson.Empty, dir)
}

// one is the first entry in a direction that matches, mongo.ErrNoDocuments for none. The oldest
// entry may be cut off while it is read: then the next one is the oldest.
func (s *Source) one(ctx context.Context, level *readconcern.ReadConcern, filter bson.Raw, dir int) (bson.Raw, error) {
	for try := 1; ; try++ {
		raw, err := s.coll(level).FindOne(ctx, dbson.Raw(filter), options.FindOne().SetSort(dbson.D{{Key: "$natural", Value: dir}})).Raw()
		var se mongo.ServerError
		if errors.As(err, &se) && se.HasErrorCode(codeCappedPositionLost) && try < maxCutOff {
			continue
		}
		if err != nil {
			return nil, err
		}
		return bson.Raw(raw), nil
	}
}

const (
	codeCappedPositionLost = 136
	maxCutOff              = 20 // times in a row: an oplog is cut a few times a second at most
)

// Newest is the newest entry that will stay: majority-committed on a replica set,
// journaled on a Cairn.
func (s *Source) Newest(ctx context.Context) (entry.OpTime, error) {
	if s.bounded {
		point, err := s.majorityPoint(ctx)
		if err != nil {
			return entry.OpTime{}, err
		}
		raw, err := s.one(ctx, s.majority(), bson.D("ts", bson.D("$lte", point)), -1)
		if err != nil {
			return entry.OpTime{}, noEntry(err)
		}
		return optime(raw)
	}
	raw, err := s.edge(ctx, -1)
	if err != nil {
		return entry.OpTime{}, noEntry(err)
	}
	return optime(raw)
}

// Oldest is the oldest entry that is left.
func (s *Source) Oldest(ctx context.Context) (entry.OpTime, error) {
	raw, err := s.edge(ctx, 1)
	if err != nil {
		return entry.OpTime{}, noEntry(err)
	}
	return optime(raw)
}

func noEntry(err error) error {
	if errors.Is(err, mongo.ErrNoDocuments) {
		return ErrEmpty
	}
	return err
}

// Entry is the entry with this ts, nil if there is none.
func (s *Source) Entry(ctx context.Context, ts bson.Timestamp) (bson.Raw, error) {
	cur, err := s.query(ctx, bson.D("ts", bson.D("$gte", ts, "$lte", ts)), false)
	if err != nil {
		return nil, err
	}
	defer closeCursor(cur)
	if !cur.Next(ctx) {
		return nil, cur.Err()
	}
	return bson.Raw(cur.Current).Clone(), nil
}

// Has reports whether the oplog has an entry of this ts and term.
func (s *Source) Has(ctx context.Context, t entry.OpTime) (bool, error) {
	raw, err := s.Entry(ctx, t.TS)
	if raw == nil || err != nil {
		return false, err
	}
	got, err := optime(raw)
	return got == t, err
}

// majorityPoint is the ts up to which the majority of the set has everything.
func (s *Source) majorityPoint(ctx context.Context) (bson.Timestamp, error) {
	reply, err := s.run(ctx, "admin", bson.D("isMaster", 1))
	if err != nil {
		return 0, err
	}
	if ts := reply.Path("lastWrite.majorityOpTime.ts"); ts.Type == bson.TypeTimestamp {
		return ts.Timestamp(), nil
	}
	if reply, err = s.run(ctx, "admin", bson.D("replSetGetStatus", 1)); err != nil {
		return 0, err
	}
	ts := reply.Path("optimes.lastCommittedOpTime.ts")
	if ts.Type != bson.TypeTimestamp {
		return 0, errors.New("the server does not tell what the majority of its replica set has")
	}
	return ts.Timestamp(), nil
}

// Visible is the ts of the newest write that a reader of the server's collections may have
// seen. A write is seen a moment before its entry is journaled, or committed by a majority,
// and so before anyone sees the entry in the oplog: who copies collections must wait for
// this entry. It is 0 if the server does not tell.
func (s *Source) Visible(ctx context.Context) (bson.Timestamp, error) {
	if s.set != "" {
		reply, err := s.run(ctx, "admin", bson.D("isMaster", 1))
		if err != nil {
			return 0, err
		}
		return timestamp(reply.Path("lastWrite.opTime.ts")), nil
	}
	// A standalone Cairn has no lastWrite in its hello; a server that is no Cairn has no such field.
	reply, err := s.run(ctx, "admin", bson.D("serverStatus", 1, "metrics", 0, "locks", 0))
	if isCode(err, 13) { // Unauthorized: it is told less exactly, as any other server is
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return timestamp(reply.Path("journal.lastApplied")), nil
}

func timestamp(v bson.Value) bson.Timestamp {
	if v.Type != bson.TypeTimestamp {
		return 0
	}
	return v.Timestamp()
}

// Window is what the oplog covers.
type Window struct {
	Oldest, Newest         entry.OpTime
	OldestWall, NewestWall time.Time // zero if the entries do not say
	Bytes, MaxBytes        int64     // 0 if the server does not tell
}

// Length is the time between the oldest and the newest entry.
func (w Window) Length() time.Duration {
	return time.Duration(int64(w.Newest.TS.Seconds())-int64(w.Oldest.TS.Seconds())) * time.Second
}

// Lag is how far t is behind the newest entry.
func (w Window) Lag(t entry.OpTime) time.Duration {
	return max(0, time.Duration(int64(w.Newest.TS.Seconds())-int64(t.TS.Seconds()))*time.Second)
}

// Left is how far the oldest entry is behind t: once it is negative, t is lost.
func (w Window) Left(t entry.OpTime) time.Duration {
	return time.Duration(int64(t.TS.Seconds())-int64(w.Oldest.TS.Seconds())) * time.Second
}

// Window reads what the oplog covers.
func (s *Source) Window(ctx context.Context) (w Window, err error) {
	oldest, err := s.edge(ctx, 1)
	if err != nil {
		return w, noEntry(err)
	}
	if w.Oldest, err = optime(oldest); err != nil {
		return w, err
	}
	if w.Newest, err = s.Newest(ctx); err != nil {
		return w, err
	}
	newest, err := s.Entry(ctx, w.Newest.TS)
	if err != nil {
		return w, err
	}
	w.OldestWall, w.NewestWall = wall(oldest), wall(newest)
	// Not every user may, and nothing depends on it.
	if reply, err := s.run(ctx, "local", bson.D("collStats", s.name)); err == nil {
		w.Bytes, _ = reply.Get("size").AsInt64()
		w.MaxBytes, _ = reply.Get("maxSize").AsInt64()
	}
	return w, nil
}

func wall(raw bson.Raw) time.Time {
	if v := raw.Get("wall"); v.Type == bson.TypeDate {
		return v.Date().Time()
	}
	return time.Time{}
}

// Start is where a dump's oplog must begin now: the newest entry, or the first one of
// the oldest transaction that is not finished.
func (s *Source) Start(ctx context.Context) (entry.OpTime, error) {
	newest, err := s.Newest(ctx)
	if err != nil {
		return newest, err
	}
	raw, err := s.client.Database("config", options.Database().SetReadConcern(readconcern.Local())).Collection("transactions").
		FindOne(ctx, dbson.D{{Key: "state", Value: dbson.D{{Key: "$in", Value: dbson.A{"prepared", "inProgress"}}}}},
			options.FindOne().SetSort(dbson.D{{Key: "startOpTime", Value: 1}})).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return newest, nil
	}
	if err != nil {
		return newest, fmt.Errorf("reading config.transactions for transactions under way: %w", err)
	}
	doc := bson.Raw(raw).Get("startOpTime").Doc()
	ts := doc.Get("ts")
	if ts.Type != bson.TypeTimestamp {
		return newest, errors.New("a document of config.transactions with an unfinished transaction has no startOpTime.ts")
	}
	if ts.Timestamp() >= newest.TS {
		return newest, nil
	}
	t := entry.OpTime{TS: ts.Timestamp(), Term: -1}
	if n, ok := doc.Get("t").AsInt64(); ok {
		t.Term = n
	}
	return t, nil
}

// query opens a cursor over entries in order; with tail it stays open at the end.
func (s *Source) query(ctx context.Context, filter bson.Raw, tail bool) (*mongo.Cursor, error) {
	if s.old {
		// RunCommandCursor reads from the primary whatever the URI says; before 4.4 a find
		// without the flag would read the whole oplog up to its beginning.
		b := bson.NewBuilder(nil)
		b.Str("find", s.name).AppendDoc("filter", filter).Bool("oplogReplay", true).Int32("batchSize", batchSize)
		if tail {
			b.Bool("tailable", true).Bool("awaitData", true)
		}
		b.AppendDoc("readConcern", bson.D("level", s.majority().Level))
		cur, err := s.client.Database("local").RunCommandCursor(ctx, dbson.Raw(b.Finish()))
		if err == nil && tail {
			cur.SetMaxAwaitTime(awaitTime)
		}
		return cur, err
	}
	o := options.Find().SetBatchSize(batchSize)
	if tail {
		o.SetCursorType(options.TailableAwait).SetMaxAwaitTime(awaitTime)
	}
	return s.coll(s.majority()).Find(ctx, dbson.Raw(filter), o)
}

// batchSize is how many entries the first reply may have, and any other.
const batchSize = 20_000

// awaitTime is how long a server may hold a question for more back. It bounds how long a
// dead connection stays unnoticed.
const awaitTime = time.Second

func closeCursor(cur *mongo.Cursor) {
	// The cursor may be on a server that is gone, and the caller's context over.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = cur.Close(ctx) // nothing depends on it: the server ends idle cursors by itself
}
