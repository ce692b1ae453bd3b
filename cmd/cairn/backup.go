package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/term"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/internal/backup/batch"
	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/results"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// Exit codes of cairn backup, besides 0, 1 and 2.
const (
	exitGap         = 3   // oplog is lost; the gap was recorded
	exitDamage      = 4   // damage, or a restored server that is not as it must be
	exitRefused     = 5   // the moment cannot be restored, the server is another one, or nobody confirmed
	exitRepoLocked  = 6   // another process holds the repository's lock, or ours could not be kept
	exitInterrupted = 130 // a signal
)

const backupExitCodes = `Exit codes: 0 done; 1 failed; 2 the command line is wrong; 3 oplog is lost (a gap, recorded);
4 damage, or what was restored differs; 5 refused (a moment that cannot be restored, another
server's repository, no confirmation); 6 the repository is locked by another process, or
its lock could not be kept; 130 interrupted.`

// backupFlags are what every command of `cairn backup` takes.
type backupFlags struct {
	repo, uri, passphraseFile, cacheDir string
	identities                          []string
	json, quiet, ascii                  bool
	workers                             int
	out                                 io.Writer
}

func newBackupCommand() *cobra.Command {
	f := &backupFlags{out: os.Stdout}
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Full and incremental backups of a MongoDB or a Cairn, restored to any moment",
		Long: `Backs up any server with a readable oplog: full backups, oplog slices between them, and from
both every moment in between, exact to the oplog entry.

The repository is a directory or a bucket (file://, s3://, gs://, azblob://) that needs nothing
besides: --repo or CAIRN_REPO. The server is a connection string: --uri or CAIRN_URI.

` + backupExitCodes,
		Example: `  export CAIRN_REPO=file:///var/backups/shop CAIRN_URI=mongodb://localhost:27017
  cairn backup init
  cairn backup full                       # once a week, say
  cairn backup incr                       # from cron, or instead of both: cairn backup run
  cairn backup list
  cairn backup drill                      # does it really come back?
  cairn backup restore --to "2026-11-26 14:05" --plan`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return f.usage(fmt.Errorf("there is no command %q: see cairn backup --help", args[0]))
			}
			return cmd.Help()
		},
	}
	p := cmd.PersistentFlags()
	p.StringVar(&f.repo, "repo", "", "repository: file:///dir, s3://bucket?region=…&prefix=…, gs://bucket, azblob://container (CAIRN_REPO)")
	p.StringVar(&f.uri, "uri", "", "connection string of the server (CAIRN_URI)")
	p.StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase of an encrypted repository (or CAIRN_PASSPHRASE)")
	p.StringArrayVar(&f.identities, "identity", nil, "file with an age secret key that opens the repository (or CAIRN_IDENTITY); may be repeated")
	p.StringVar(&f.cacheDir, "cache-dir", "", "keep indexes and manifests here, so that a far repository opens faster")
	p.BoolVar(&f.json, "json", false, "write the result as JSON")
	p.BoolVar(&f.quiet, "quiet", false, "say nothing but results and errors")
	p.BoolVar(&f.ascii, "ascii", false, "draw with ASCII characters only")
	p.IntVar(&f.workers, "workers", 4, "collections that are read or written at the same time")
	cmd.AddCommand(newBackupInit(f), newBackupFull(f), newBackupIncr(f), newBackupRun(f), newBackupStatus(f), newBackupList(f), newBackupVerify(f),
		newBackupDrill(f), newBackupRestore(f), newBackupServe(f), newBackupFindChange(f), newBackupPrune(f), newBackupKey(f), newBackupUnlock(f))
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return f.usage(err) })
	f.checkArgs(cmd)
	return cmd
}

// checkArgs has cobra's refusals of arguments told as our own are.
func (f *backupFlags) checkArgs(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		f.checkArgs(c)
		if check := c.Args; check != nil {
			c.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return f.usage(err)
				}
				return nil
			}
		}
	}
}

// usage tells of a wrong command line, of which --json may not have been read yet.
func (f *backupFlags) usage(err error) error {
	f.json = f.json || slices.Contains(os.Args[1:], "--json")
	return f.finish(context.Background(), nil, &exitError{exitUsage, err})
}

// backupCommand makes a command whose work is do. needs says what is opened before.
func backupCommand(f *backupFlags, use, short, example string, needs needs, do func(ctx context.Context, e *pitr.Env) (results.Report, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example, Args: cobra.NoArgs,
		Long: short + ".\n\n" + backupExitCodes,
		RunE: func(*cobra.Command, []string) error { return f.run(needs, do) },
	}
}

type needs int

const (
	needsRepo   needs = iota // the repository only
	wantsServer              // the server too, if one is given
	needsServer              // the server
)

// run opens what a command needs, runs it and writes its result.
func (f *backupFlags) run(n needs, do func(ctx context.Context, e *pitr.Env) (results.Report, error)) error {
	ctx, stop := backupSignals()
	defer stop()
	e, closeAll, err := f.env(ctx, n)
	if err != nil {
		return f.finish(ctx, nil, err)
	}
	r, err := do(ctx, e)
	return f.finish(ctx, r, errors.Join(err, closeAll()))
}

// finish writes the result, and an error as JSON if that was asked for.
func (f *backupFlags) finish(ctx context.Context, r results.Report, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), tool.ErrTerminated) && (errors.Is(err, context.Canceled) || errors.Is(err, tool.ErrTerminated)) {
		err = &exitError{exitInterrupted, errors.New("interrupted; nothing that is not whole was signed off")}
	}
	var code *exitError
	if err != nil && !errors.As(err, &code) {
		code = &exitError{backupExit(err), err}
	}
	switch {
	case !f.json && r != nil:
		r.Text(f.out)
	case f.json && r != nil && code == nil:
		return results.JSON(f.out, r)
	case f.json && code != nil:
		all := struct {
			results.Failure
			Result results.Report `json:"result,omitempty"`
		}{results.NewFailure(code.err, code.code), r}
		if jerr := results.JSON(f.out, all); jerr != nil {
			return &exitError{exitFailure, jerr}
		}
	}
	if code != nil {
		return code
	}
	return nil
}

// backupExit chooses the exit code of an error.
func backupExit(err error) int {
	var gap *pitr.GapError
	var damage *pitr.DamageError
	var differ *pitr.DifferError
	var chainErr *pitr.ChainError
	var corrupt *repo.CorruptError
	var not *chain.NotRestorableError
	var src *pitr.SourceError
	var locked *repo.LockedError
	var selection *pitr.SelectionError
	switch {
	case errors.As(err, &selection):
		return exitUsage
	case errors.As(err, &gap):
		return exitGap
	case errors.As(err, &damage), errors.As(err, &differ), errors.As(err, &corrupt), errors.As(err, &chainErr):
		return exitDamage
	case errors.As(err, &not), errors.As(err, &src):
		return exitRefused
	case errors.As(err, &locked), errors.Is(err, repo.ErrLockLost):
		return exitRepoLocked
	}
	return exitFailure
}

// backupSignals cancels the context at the first signal and ends the process at the second.
func backupSignals() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case <-ch:
			cancel(tool.ErrTerminated)
		case <-done:
			return
		}
		select {
		case <-ch:
			os.Exit(exitInterrupted)
		case <-done:
		}
	}()
	return ctx, func() { signal.Stop(ch); close(done); cancel(nil) }
}

// repoOptions reads the keys.
func (f *backupFlags) repoOptions() (o repo.Options, err error) {
	o.Cache = f.cacheDir
	o.Passphrase = os.Getenv("CAIRN_PASSPHRASE")
	if f.passphraseFile != "" {
		data, err := os.ReadFile(f.passphraseFile)
		if err != nil {
			return o, fmt.Errorf("the passphrase: %w", err)
		}
		o.Passphrase = strings.TrimRight(string(data), "\r\n")
		if o.Passphrase == "" {
			return o, fmt.Errorf("the passphrase file %s is empty", f.passphraseFile)
		}
	}
	files := f.identities
	if env := os.Getenv("CAIRN_IDENTITY"); env != "" && len(files) == 0 {
		files = []string{env}
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return o, fmt.Errorf("the identity: %w", err)
		}
		ids, err := age.ParseIdentities(bytes.NewReader(data))
		if err != nil {
			return o, fmt.Errorf("identity file %s: %w", name, err)
		}
		o.Identities = append(o.Identities, ids...)
	}
	return o, nil
}

func (f *backupFlags) needRepo() error {
	if f.repo == "" {
		f.repo = os.Getenv("CAIRN_REPO")
	}
	if f.repo == "" {
		return &exitError{exitUsage, errors.New("no repository is given: use --repo URL or CAIRN_REPO")}
	}
	return nil
}

// env opens the repository and the server.
func (f *backupFlags) env(ctx context.Context, n needs) (*pitr.Env, func() error, error) {
	if err := f.needRepo(); err != nil {
		return nil, nil, err
	}
	uri := f.uri
	if uri == "" {
		uri = os.Getenv("CAIRN_URI")
	}
	if n == needsServer && uri == "" {
		return nil, nil, &exitError{exitUsage, errors.New("no server is given: use --uri mongodb://… or CAIRN_URI")}
	}
	o, err := f.repoOptions()
	if err != nil {
		return nil, nil, err
	}
	r, err := repo.Open(ctx, f.repo, repo.OpenOptions{Options: o})
	if err != nil {
		return nil, nil, err
	}
	e := f.newEnv(r)
	if n == needsRepo || uri == "" {
		return e, r.Close, nil
	}
	e.Dialer = new(batch.Dialer)
	if e.Client, err = connectBackup(uri, e.Dialer); err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	return e, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return errors.Join(e.Client.Disconnect(ctx), r.Close())
	}, nil
}

func connectBackup(uri string, d *batch.Dialer) (*mongo.Client, error) {
	o := options.Client().ApplyURI(uri).SetAppName("cairn backup").SetServerSelectionTimeout(20 * time.Second).SetDialer(d)
	if err := o.Validate(); err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("the connection string: %w", err)}
	}
	tool.PollServers(o)
	return mongo.Connect(o)
}

func (f *backupFlags) newEnv(r *repo.Repo) *pitr.Env {
	e := &pitr.Env{Repo: r, Workers: f.workers, Tool: "cairn " + version, Embedded: embeddedServer}
	if tty := term.IsTerminal(int(os.Stderr.Fd())); tty && !f.quiet {
		log := tool.NewLog(os.Stderr, 0)
		p := &lazyProgress{log: log}
		e.Say, e.Bar = log.Always, p.bar
	}
	return e
}

// lazyProgress shows bars while there are any, so that nothing is drawn for quick commands.
type lazyProgress struct {
	log  *tool.Log
	mu   sync.Mutex
	p    *tool.Progress
	open int
}

func (l *lazyProgress) bar(name string, total int64) (add func(int64), done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.p == nil {
		l.p = tool.NewProgress(l.log, tool.ProgressOptions{Terminal: os.Stderr})
	}
	l.open++
	b := l.p.Start(name, total)
	return b.Add, func() {
		b.Done()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.open--; l.open == 0 {
			l.p.Stop()
			l.p = nil
		}
	}
}

// embeddedServer is the throw-away server of drill and serve, on the loopback interface.
func embeddedServer(_ context.Context, dir string) (pitr.Server, error) {
	return cairn.Open(cairn.Options{Dir: dir, CacheBytes: 128 << 20, OplogBytes: 64 << 20, Parameters: []string{"ttlMonitorEnabled=false"}})
}

// backupProcess sets the process up for a long run in little memory.
func backupProcess() {
	runtime.GOMAXPROCS(min(runtime.NumCPU(), 4))
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(200 << 20)
	}
}
