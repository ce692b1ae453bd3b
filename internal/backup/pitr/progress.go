package pitr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// Phases of a restore, in order.
const (
	phaseDrop = iota // what is overwritten
	phaseData
	phaseOplog
	phaseIndexes
	phaseVerify
)

// progress is the state of a restore, kept on the target so that another process can go on.
type progress struct {
	ID      string    `bson:"_id"`
	Plan    string    `bson:"plan"`
	What    string    `bson:"what"`
	Started time.Time `bson:"started"`
	Phase   int       `bson:"phase"`
	UUIDs   bool      `bson:"uuids"`          // collections have the UUIDs they had
	Copy    string    `bson:"copy,omitempty"` // else: those that replay.CopyUUID gives for this name; "" the target's own
	Done    []string  `bson:"done"`           // collections whose data are there
	// Applied is left out while nothing is: a server puts its own time into an empty timestamp.
	Applied dbson.Timestamp `bson:"applied,omitempty"`
}

const progressID = "state"

func (e *Env) progressColl() *mongo.Collection {
	return e.Client.Database(scratchDB).Collection("state")
}

// readProgress returns the state of an unfinished restore, nil if there is none.
func (e *Env) readProgress(ctx context.Context) (*progress, error) {
	var p progress
	err := e.progressColl().FindOne(ctx, dbson.D{{Key: "_id", Value: progressID}}).Decode(&p)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for an unfinished restore on the target: %w", err)
	}
	return &p, nil
}

// tracker writes progress. It is safe for several goroutines.
type tracker struct {
	env     *Env
	off     bool // a throw-away target
	mu      sync.Mutex
	p       progress
	applied atomic.Uint64
}

func (t *tracker) save(ctx context.Context) error {
	if t.off {
		return nil
	}
	t.p.ID = progressID
	_, err := t.env.progressColl().ReplaceOne(ctx, dbson.D{{Key: "_id", Value: progressID}}, &t.p, options.Replace().SetUpsert(true))
	if err != nil {
		return fmt.Errorf("keeping the state of the restore on the target: %w", err)
	}
	return nil
}

func (t *tracker) phase(ctx context.Context, phase int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p.Phase = phase
	return t.save(ctx)
}

func (t *tracker) collectionDone(ctx context.Context, ns string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p.Done = append(t.p.Done, ns)
	return t.save(ctx)
}

// Applied is told by the replay how far it is.
func (t *tracker) Applied(o entry.OpTime) { t.applied.Store(uint64(o.TS)) }

// keep saves how far the replay is, every second until ctx is over.
func (t *tracker) keep(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := t.saveApplied(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (t *tracker) saveApplied(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := bson.Timestamp(t.applied.Load())
	now := dbson.Timestamp{T: at.Seconds(), I: at.Increment()}
	if now == t.p.Applied || at == 0 {
		return nil
	}
	t.p.Applied = now
	return t.save(ctx)
}

// finish forgets the state, and waits until the majority of the target's set has all of the restore.
func (t *tracker) finish(ctx context.Context) error {
	if t.off {
		return nil
	}
	db := t.env.Client.Database(scratchDB, options.Database().SetWriteConcern(writeconcern.Majority()))
	if err := db.Drop(ctx); err != nil {
		return fmt.Errorf("removing the state of the restore (database %s) from the target: %w", scratchDB, err)
	}
	return nil
}
