package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/batch"
	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/results"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/node"
)

// serverBackup is `cairn serve --backup`: a continuous backup of the server in its own process,
// through a connection like any other client's.
type serverBackup struct {
	s    *node.BackupSettings
	log  *slog.Logger
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	runner *pitr.Runner // nil until the repository is open
	err    error        // why it ended, or does not get on
}

// newServerBackup checks the settings; nothing is opened before the server answers.
func newServerBackup(s *node.Settings) (node.Backup, error) {
	if s.BackupSettings.Repo == "" {
		return nil, nil
	}
	if s.BackupSettings.FullEvery != "" {
		if _, err := chain.ParseDuration(s.BackupSettings.FullEvery); err != nil {
			return nil, fmt.Errorf("--backupFullEvery: %w", err)
		}
	}
	return &serverBackup{s: &s.BackupSettings, log: s.Log.With("component", "backup"), done: make(chan struct{})}, nil
}

// Start implements node.Backup.
func (b *serverBackup) Start(uri string) {
	if b.s.URI != "" {
		uri = b.s.URI
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	go func() {
		defer close(b.done)
		pause := time.Second
		for {
			err := b.run(ctx, uri)
			b.mu.Lock()
			b.err = err
			b.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			b.log.Error("the backup was interrupted", "err", err, "again_in", pause)
			t := time.NewTimer(pause)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return
			}
			pause = min(2*pause, 5*time.Minute)
		}
	}()
}

// run opens repository and connection and captures until ctx is over or it cannot go on.
func (b *serverBackup) run(ctx context.Context, uri string) (err error) {
	f := &backupFlags{repo: b.s.Repo, passphraseFile: b.s.PassphraseFile, workers: 2}
	o, err := f.repoOptions()
	if err != nil {
		return err
	}
	r, err := repo.Open(ctx, b.s.Repo, repo.OpenOptions{Options: o})
	if errors.Is(err, repo.ErrNoRepository) {
		b.log.Info("making a repository", "url", b.s.Repo, "encrypted", o.Passphrase != "")
		r, err = repo.Init(ctx, b.s.Repo, repo.InitOptions{Options: o})
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var client *mongo.Client
	dialer := new(batch.Dialer)
	if client, err = connectBackup(uri, dialer); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, client.Disconnect(ctx))
	}()
	e := &pitr.Env{Repo: r, Client: client, Dialer: dialer, Workers: 2, Tool: "cairn " + version, Say: func(format string, args ...any) { b.log.Info(fmt.Sprintf(format, args...)) }}
	every, _ := chain.ParseDuration(b.s.FullEvery) // checked at the start; "" is never
	runner, err := e.NewRunner(pitr.RunOptions{Every: time.Duration(b.s.Seconds) * time.Second, FullEvery: every, FullOnGap: true})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.runner = runner
	b.mu.Unlock()
	b.log.Info("backing up continuously", "repository", r.URL())
	return runner.Run(ctx)
}

// Close implements node.Backup.
func (b *serverBackup) Close() error {
	if b.stop == nil {
		return nil
	}
	b.stop()
	<-b.done
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		// The server itself ends cleanly; what is not stored is still in its oplog.
		b.log.Error("the backup did not end cleanly", "err", b.err)
	}
	return nil
}

// runStatus is how the backup stands, for metrics.
func (b *serverBackup) runStatus() (pitr.RunStatus, bool) {
	b.mu.Lock()
	runner, err := b.runner, b.err
	b.mu.Unlock()
	if runner == nil {
		return pitr.RunStatus{}, false
	}
	return runner.Status(), err == nil
}

// Status implements node.Backup.
func (b *serverBackup) Status(out *bson.Builder) {
	b.mu.Lock()
	runner, err := b.runner, b.err
	b.mu.Unlock()
	out.Str("repository", redactURL(b.s.Repo))
	if runner == nil {
		out.Str("state", "starting")
		if err != nil {
			out.Str("lastError", err.Error())
		}
		return
	}
	s := runner.Status()
	state := "running"
	if err != nil {
		state = "failed"
	}
	out.Str("state", state)
	if !s.Stored.IsNull() {
		out.Timestamp("newestRestorable", s.Stored.TS).Timestamp("captured", s.Captured.TS)
		out.Double("lagSecs", s.Lag().Seconds()).Date("storedAt", bson.NewDateTime(s.StoredAt))
	}
	out.Int64("slices", s.Slices).Int64("entries", s.Entries).Int64("bytes", s.Bytes).Int64("fullBackups", s.Fulls).Bool("fullBackupRunning", s.FullRunning).
		Int64("gaps", s.Gaps).Int64("retries", s.Retries)
	if !s.LastFull.IsZero() {
		out.Date("lastFullBackup", bson.NewDateTime(s.LastFull))
	}
	for _, check := range []struct {
		name string
		at   time.Time
		ok   bool
	}{{"lastVerify", s.LastVerify, s.LastVerifyOK}, {"lastDrill", s.LastDrill, s.LastDrillOK}} {
		if !check.at.IsZero() {
			out.Date(check.name, bson.NewDateTime(check.at)).Bool(check.name+"Ok", check.ok)
		}
	}
	line := results.NewRun(s, time.Now())
	out.Doc("store").Int64("requests", line.Requests).Double("requestsAnHour", line.PerHour).Int64("uploadedBytes", s.Requests.BytesUp).
		Int64("put", s.Requests.Put).Int64("get", s.Requests.Get).Int64("head", s.Requests.Head).Int64("list", s.Requests.List).Int64("delete", s.Requests.Delete).End()
	if s.LastError != "" {
		out.Str("lastError", s.LastError).Date("lastErrorAt", bson.NewDateTime(s.LastErrorAt))
	} else if err != nil {
		out.Str("lastError", err.Error())
	}
}

// redactURL takes a password out of a URL.
func redactURL(text string) string {
	if u, err := url.Parse(text); err == nil && u.Scheme != "" {
		return u.Redacted()
	}
	return text
}
