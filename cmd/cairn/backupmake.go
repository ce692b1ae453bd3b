package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/results"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/tool"
)

func newBackupInit(f *backupFlags) *cobra.Command {
	var recipients []string
	var chunk, pack int
	cmd := &cobra.Command{
		Use: "init", Short: "Make a repository", Args: cobra.NoArgs,
		Long: "Make a repository in a directory or a bucket. With a passphrase or recipients everything in it but\nthe format marker is encrypted before it leaves this machine.\n\n" + backupExitCodes,
		Example: `  cairn backup init --repo file:///var/backups/shop
  cairn backup init --repo 's3://bucket?region=eu-central-1&prefix=shop/' --passphrase-file /etc/cairn/passphrase
  cairn backup init --repo gs://bucket --recipient age1…      # whoever has the secret key can read it`,
		RunE: func(*cobra.Command, []string) error {
			ctx, stop := backupSignals()
			defer stop()
			r, err := func() (results.Report, error) {
				if err := f.needRepo(); err != nil {
					return nil, err
				}
				o, err := f.repoOptions()
				if err != nil {
					return nil, err
				}
				io := repo.InitOptions{Options: o, AverageChunk: chunk << 10, PackSize: pack << 20}
				for _, text := range recipients {
					rs, err := age.ParseRecipients(strings.NewReader(text))
					if err != nil {
						return nil, &exitError{exitUsage, fmt.Errorf("--recipient %s: %w", text, err)}
					}
					io.Recipients = append(io.Recipients, rs...)
				}
				r, err := repo.Init(ctx, f.repo, io)
				if err != nil {
					return nil, err
				}
				return results.NewInit(r), r.Close()
			}()
			return f.finish(ctx, r, err)
		},
	}
	cmd.Flags().StringArrayVar(&recipients, "recipient", nil, "age public key that may read the repository; may be repeated")
	cmd.Flags().IntVar(&chunk, "chunk", 0, "average size of a chunk in KB, 2 to 64 (8)")
	cmd.Flags().IntVar(&pack, "pack", 0, "size of an object in MB, 8 to 64 (16)")
	return cmd
}

func newBackupFull(f *backupFlags) *cobra.Command {
	var o pitr.FullOptions
	cmd := backupCommand(f, "full", "Take a full backup: data, options, indexes, users and roles, with the oplog of its own duration",
		`  cairn backup full --repo file:///var/backups/shop --uri mongodb://localhost:27017`, needsServer,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			backupProcess()
			started := time.Now()
			m, err := e.Full(ctx, o)
			if m == nil {
				return nil, err
			}
			return results.NewFull(m, time.Since(started)), err
		})
	cmd.Flags().BoolVar(&o.NewSource, "new-source", false, "allow another server than the one whose backups the repository holds")
	return cmd
}

func newBackupIncr(f *backupFlags) *cobra.Command {
	var o pitr.IncrOptions
	cmd := backupCommand(f, "incr", "Add the oplog since the last backup: one more slice",
		`  */5 * * * *  cairn backup incr --full-on-gap     # in a crontab; exit code 3 says that oplog was lost`, needsServer,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			backupProcess()
			started := time.Now()
			s, err := e.Incr(ctx, o)
			if len(s.Manifests) == 0 && err != nil {
				return nil, err
			}
			return results.NewIncr(s, time.Since(started)), err
		})
	cmd.Flags().BoolVar(&o.FullOnGap, "full-on-gap", false, "take a full backup when oplog was lost (the exit code is 3 all the same)")
	return cmd
}

func newBackupRun(f *backupFlags) *cobra.Command {
	var o pitr.RunOptions
	var mb int
	var metricsAddr string
	var statusEvery time.Duration
	cmd := &cobra.Command{
		Use: "run", Short: "Back up continuously until SIGTERM", Args: cobra.NoArgs,
		Long: "Follow the oplog and store a slice every few seconds, take full backups by schedule, and go on after\nrestarts and elections of the server and errors of the store. What may be lost is at most --every and\nthe time of an upload.\n\n" + backupExitCodes,
		Example: `  cairn backup run --full-at 02:30
  cairn backup run --every 30s --full-every 168h --full-on-gap`,
		RunE: func(*cobra.Command, []string) error {
			return f.run(needsServer, func(ctx context.Context, e *pitr.Env) (results.Report, error) {
				backupProcess()
				o.SliceBytes = int64(mb) << 20
				if !f.quiet { // a service: its lines go to the journal
					e.Say = tool.NewLog(os.Stderr, 0).Always
				}
				r, err := e.NewRunner(o)
				if err != nil {
					return nil, &exitError{exitUsage, err}
				}
				stopMetrics, err := runMetrics(metricsAddr, r)
				if err != nil {
					return nil, err
				}
				statusCtx, stop := context.WithCancel(ctx)
				done := make(chan struct{})
				go func() { defer close(done); f.tellStatus(statusCtx, e, r, statusEvery) }()
				err = r.Run(ctx)
				stop()
				<-done
				err = errors.Join(err, stopMetrics())
				return results.NewRun(r.Status(), time.Now()), err
			})
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&o.Every, "every", 4*time.Second, "store what was captured after so long")
	fl.IntVar(&mb, "slice-mb", 64, "store sooner when so many megabytes have gathered")
	fl.DurationVar(&o.IdleEvery, "idle-every", time.Minute, "extend the coverage after so long when nothing happens")
	fl.DurationVar(&o.FullEvery, "full-every", 0, "take a full backup when the newest is older, such as 168h")
	fl.StringVar(&o.FullAt, "full-at", "", "take a full backup each day at this local time, such as 02:30")
	fl.BoolVar(&o.FullOnGap, "full-on-gap", false, "take a full backup and go on when oplog was lost; otherwise it ends with exit code 3")
	fl.DurationVar(&o.MergeEvery, "merge-every", time.Hour, "join small slices after so long")
	fl.DurationVar(&statusEvery, "status-every", 10*time.Minute, "say how it stands after so long; 0 never")
	fl.StringVar(&metricsAddr, "metrics-addr", "", "HOST:PORT of a page /metrics for Prometheus, without access control")
	return cmd
}

// tellStatus says now and then how the run stands.
func (f *backupFlags) tellStatus(ctx context.Context, e *pitr.Env, r *pitr.Runner, every time.Duration) {
	if every <= 0 || e.Say == nil {
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		var b strings.Builder
		results.NewRun(r.Status(), time.Now()).Text(&b)
		e.Say("%s", strings.TrimSpace(b.String()))
	}
}

func newBackupKey(f *backupFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "List, add and remove the keys of an encrypted repository"}
	list := backupCommand(f, "list", "List the keys", "  cairn backup key list", needsRepo, func(ctx context.Context, e *pitr.Env) (results.Report, error) {
		ks, err := e.Repo.Keys(ctx)
		return results.Keys(ks), err
	})
	var newFile, recipient, label string
	add := backupCommand(f, "add", "Add a passphrase or an age public key", "  cairn backup key add --recipient age1… --label ops", needsRepo,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			var k repo.KeyInfo
			switch {
			case (newFile == "") == (recipient == ""):
				return nil, &exitError{exitUsage, errors.New("give one of --new-passphrase-file and --recipient")}
			case newFile != "":
				data, err := os.ReadFile(newFile)
				if err != nil {
					return nil, err
				}
				if k, err = e.Repo.AddPassphrase(ctx, strings.TrimRight(string(data), "\r\n"), label); err != nil {
					return nil, err
				}
			default:
				rs, err := age.ParseRecipients(strings.NewReader(recipient))
				if err != nil {
					return nil, &exitError{exitUsage, err}
				}
				if k, err = e.Repo.AddRecipient(ctx, rs[0], label); err != nil {
					return nil, err
				}
			}
			return results.Keys{k}, nil
		})
	add.Flags().StringVar(&newFile, "new-passphrase-file", "", "file with the passphrase to add")
	add.Flags().StringVar(&recipient, "recipient", "", "age public key to add")
	add.Flags().StringVar(&label, "label", "", "whose key it is, for people")
	remove := &cobra.Command{Use: "remove ID", Short: "Remove a key (what it has opened before may have been copied)", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return f.run(needsRepo, func(ctx context.Context, e *pitr.Env) (results.Report, error) {
				if err := e.Repo.RemoveKey(ctx, args[0]); err != nil {
					return nil, err
				}
				return &results.KeyRemoved{ID: args[0]}, nil
			})
		}}
	cmd.AddCommand(list, add, remove)
	return cmd
}

func newBackupUnlock(f *backupFlags) *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "unlock [ID]…", Short: "Remove locks of processes that are gone",
		Long:    "Remove stale locks, or those named. A process whose lock is removed signs nothing off any more.\n\n" + backupExitCodes,
		Example: "  cairn backup unlock            # the stale ones\n  cairn backup status            # shows their ids\n  cairn backup unlock 0123456789abcdef",
		RunE: func(_ *cobra.Command, args []string) error {
			return f.run(needsRepo, func(ctx context.Context, e *pitr.Env) (results.Report, error) {
				locks, err := e.Repo.Locks(ctx)
				if err != nil {
					return nil, err
				}
				for _, id := range args {
					if !slices.ContainsFunc(locks, func(l repo.LockInfo) bool { return l.ID == id }) {
						return nil, fmt.Errorf("there is no lock %s: `cairn backup status` shows those there are", id)
					}
				}
				var gone results.Locks
				for _, l := range locks {
					named := all
					for _, id := range args {
						named = named || id == l.ID
					}
					if named || len(args) == 0 && !all && l.Stale != "" {
						if err := e.Repo.RemoveLock(ctx, l.ID); err != nil {
							return gone, err
						}
						gone = append(gone, l)
					}
				}
				return gone, nil
			})
		}}
	cmd.Flags().BoolVar(&all, "all", false, "remove every lock: only when no other process works on the repository")
	return cmd
}
