package pitr

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/load"
	"github.com/cairndb/cairn/internal/backup/pitr/snapshot"
	"github.com/cairndb/cairn/internal/backup/source"
	"github.com/cairndb/cairn/internal/backup/tool"
	"github.com/cairndb/cairn/internal/bson"
)

// DrillOptions are the options of Drill.
type DrillOptions struct {
	// To is the moment that is restored; Random takes one of the recoverable window instead.
	To     chain.Moment
	Random bool
	// Dir is where the throw-away server keeps its data, removed afterwards; "" is a new
	// directory among the temporary files.
	Dir string
	// NoSource leaves the comparison with the server that was backed up out, which reads it.
	NoSource bool
}

// Drilled is the result of a drill.
type Drilled struct {
	To         bson.Timestamp
	Full       string
	Documents  int64
	Entries    int64
	Took       time.Duration
	Comparison Comparison
	Finished   time.Time
	Failure    string // why it could not be done; "" if it was
}

// OK reports whether the restore was done and is as it must be.
func (d *Drilled) OK() bool { return d.Failure == "" && len(d.Comparison.Differences) == 0 }

// DrillRecord is what is kept of a drill.
type DrillRecord struct {
	Finished    time.Time `json:"finished"`
	OK          bool      `json:"ok"`
	To          string    `json:"to"`
	Full        string    `json:"full,omitempty"`
	Documents   int64     `json:"documents"`
	Entries     int64     `json:"entries"`
	Seconds     float64   `json:"seconds"`
	Collections int       `json:"collections"`
	Source      int       `json:"comparedWithSource"`
	Differences []string  `json:"differences,omitempty"`
	Failure     string    `json:"failure,omitempty"`
}

// Drill restores a moment into an embedded throw-away server and compares it with what the
// manifests, the oplog and, if it is reachable, the source say. The result is kept in the
// repository, whatever it is. A restored server that is not as it must be is a *DifferError.
func (e *Env) Drill(ctx context.Context, o DrillOptions) (*Drilled, error) {
	if e.Embedded == nil {
		return nil, errors.New("this program has no embedded server to restore into")
	}
	started := time.Now()
	d := &Drilled{}
	err := e.drill(ctx, o, d)
	d.Took, d.Finished = time.Since(started), e.now().UTC()
	var differ *DifferError
	if err != nil && !errors.As(err, &differ) {
		d.Failure = err.Error()
	}
	rec := DrillRecord{d.Finished, d.OK(), chain.Text(d.To), d.Full, d.Documents, d.Entries, d.Took.Seconds(),
		d.Comparison.Collections + d.Comparison.TouchedCollections, d.Comparison.Source, d.Comparison.Differences, d.Failure}
	// Also when the drill was interrupted: that is a result.
	if rerr := e.Repo.PutRecord(context.WithoutCancel(ctx), recordDrill, d.Finished.Format("20060102T150405.000Z"), rec); rerr != nil {
		err = errors.Join(err, fmt.Errorf("recording the result: %w", rerr))
	} else if rerr := e.Repo.PutRecord(context.WithoutCancel(ctx), recordLast, recordDrill, rec); rerr != nil {
		err = errors.Join(err, fmt.Errorf("recording the result: %w", rerr))
	}
	return d, err
}

func (e *Env) drill(ctx context.Context, o DrillOptions, d *Drilled) (err error) {
	st, err := e.State(ctx)
	if err != nil {
		return err
	}
	if o.Random {
		if o.To, err = randomMoment(st.Coverage); err != nil {
			return err
		}
	}
	_, there, stop, err := e.throwAway(ctx, o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	ro := RestoreOptions{To: o.To, Verify: true, NoUsers: true}
	p, err := there.plan(ctx, st, ro)
	if err != nil {
		return err
	}
	d.To, d.Full = p.To, p.Chain.Full.ID
	e.say("drill: restoring %s into a throw-away server (%s, %s)", chain.Describe(p.To), tool.Count(p.Documents, "document", "documents"), tool.Count(p.OplogEntries, "oplog entry", "oplog entries"))
	out, err := there.Restore(ctx, p, ro)
	if out != nil {
		d.Documents, d.Entries = out.Documents, out.Replay.Entries
		if out.Verified != nil {
			d.Comparison = *out.Verified
		}
	}
	if err != nil {
		return err
	}
	if e.Client != nil && !o.NoSource {
		if err := e.compareSource(ctx, there, p.FullManifest().Source, p.To, &d.Comparison); err != nil {
			d.Comparison.Skipped = append(d.Comparison.Skipped, fmt.Sprintf("the source: %v", err))
		}
	}
	if len(d.Comparison.Differences) > 0 {
		return &DifferError{d.Comparison}
	}
	return nil
}

// throwAway starts an embedded server that is removed by stop.
func (e *Env) throwAway(ctx context.Context, dir string) (srv Server, there *Env, stop func() error, err error) {
	dir, err = os.MkdirTemp(dir, "cairn-restore-*")
	if err != nil {
		return nil, nil, nil, fmt.Errorf("a directory for the embedded server: %w", err)
	}
	if srv, err = e.Embedded(ctx, dir); err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("the embedded server: %w", err), os.RemoveAll(dir))
	}
	o := options.Client().ApplyURI(srv.URI())
	tool.PollServers(o)
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, nil, nil, errors.Join(err, srv.Close(), os.RemoveAll(dir))
	}
	other := *e
	other.Client = client
	return srv, &other, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return errors.Join(client.Disconnect(ctx), srv.Close(), os.RemoveAll(dir))
	}, nil
}

// randomMoment picks a second of the recoverable windows, each second equally likely.
func randomMoment(c *chain.Coverage) (chain.Moment, error) {
	total := int64(0)
	for _, w := range c.Windows {
		total += int64(w.To.TS.Seconds()-w.From.TS.Seconds()) + 1
	}
	if total == 0 {
		return chain.Moment{}, errors.New("nothing can be restored yet: there is no full backup")
	}
	n := rand.Int64N(total)
	for _, w := range c.Windows {
		length := int64(w.To.TS.Seconds()-w.From.TS.Seconds()) + 1
		if n < length {
			ts := bson.NewTimestamp(w.From.TS.Seconds()+uint32(n), 1<<31)
			return chain.Moment{TS: min(max(ts, w.From.TS), w.To.TS), Exact: true}, nil
		}
		n -= length
	}
	return chain.Moment{Latest: true}, nil
}

// compareSource compares the collections of a restored server with those of the source that
// nothing was written to since the moment, if the server is still the one that was backed up (was).
func (e *Env) compareSource(ctx context.Context, there *Env, was string, to bson.Timestamp, c *Comparison) error {
	org, err := e.openSource(ctx)
	if err != nil {
		return err
	}
	if !sameSource(was, org.name) {
		return fmt.Errorf("the backups are of %s, but this server is %s", was, org.name)
	}
	restored, err := (&snapshot.Reader{Client: there.Client}).Catalog(ctx)
	if err != nil {
		return err
	}
	var w written
	from, err := e.writtenSince(ctx, org, to, &w)
	if err != nil {
		return err
	}
	type pair struct{ ns, why string }
	var found []pair
	ours, theirs := &load.Target{Client: there.Client}, &load.Target{Client: e.Client}
	for _, coll := range restored {
		ns := coll.Namespace()
		if isSystem(ns) || coll.Type == "timeseries" {
			continue
		}
		if w.has(ns) {
			c.Skipped = append(c.Skipped, ns+": written since the moment, so not compared with the source")
			continue
		}
		if coll.Options.Get("capped").Truthy() {
			c.Skipped = append(c.Skipped, ns+": capped, which documents are still there depends on the server")
			continue
		}
		add, done := e.bar("comparing "+ns, 0)
		got, err := ours.Sum(ctx, ns)
		if err != nil {
			return err
		}
		want, err := theirs.Sum(ctx, ns)
		add(got.Documents)
		done()
		if err != nil {
			return err
		}
		why := ""
		if !got.Equal(want) {
			why = sumsDiffer(ns, got, want, "the source")
		}
		found = append(found, pair{ns, why})
	}
	// What was written while the source was read is not compared either.
	if _, err := e.writtenSince(ctx, org, from, &w); err != nil {
		return err
	}
	for _, f := range found {
		switch {
		case w.has(f.ns):
			c.Skipped = append(c.Skipped, f.ns+": written since the moment, so not compared with the source")
		case f.why != "":
			c.differ("%s", f.why)
		default:
			c.Source++
		}
	}
	return nil
}

// has reports whether a namespace, or its database, was written.
func (w *written) has(ns string) bool {
	for i := range ns {
		if ns[i] == '.' {
			return w.More || w.Namespaces[ns] > 0 || w.Namespaces[ns[:i]] > 0
		}
	}
	return true
}

// writtenSince adds what the source's oplog has behind a moment, and returns the newest entry.
func (e *Env) writtenSince(ctx context.Context, org *origin, ts bson.Timestamp, w *written) (bson.Timestamp, error) {
	win, err := org.Window(ctx)
	if err != nil {
		return 0, err
	}
	if win.Oldest.TS > ts {
		return 0, errors.New("its oplog no longer reaches back to the moment")
	}
	to, err := org.barrier(ctx)
	if err != nil {
		return 0, err
	}
	err = org.Read(ctx, max(ts, win.Oldest.TS), to.TS, func(raw bson.Raw) error {
		en, err := entry.Parse(raw)
		if err != nil || en.OpTime.TS <= ts {
			return err
		}
		return w.add(&en)
	})
	if errors.Is(err, source.ErrGone) {
		err = errors.New("its oplog no longer reaches back to the moment")
	}
	return to.TS, err
}
