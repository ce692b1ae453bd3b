package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cairndb/cairn/internal/node"
)

const serveExamples = `  cairn serve                                   # ./data, 127.0.0.1:27017
  cairn serve --dbpath /var/lib/cairn --port 27018
  cairn serve --replSet rs0 --replSetAutoInitiate
  cairn serve --config /etc/cairn.conf          # mongod.conf's shape
  cairn serve --backup s3://bucket?prefix=shop/ --backupFullEvery 7d
  cairn serve --shutdown --dbpath /var/lib/cairn`

func newServeCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "serve [options]",
		Short:              "Run the server",
		Long:               "Run the server until SIGTERM, SIGINT or the shutdown command.\n\nOptions:\n" + optionsHelp() + "\n\nExit codes: 0 clean end, 1 failure, 2 wrong options, 48 the port is taken, 100 the store is in use or unreadable.",
		Example:            serveExamples,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range args {
				if a == "-h" || a == "--help" {
					return cmd.Help()
				}
			}
			return runServe("cairn serve", args)
		},
	}
}

// runServe is `cairn serve` and, through a link, mongod.
func runServe(prog string, args []string) error {
	s, help, err := parseArgs(args)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("Error parsing command line: %w", err)}
	}
	switch {
	case help:
		fmt.Printf("Usage: %s [options]\n\nOptions:\n%s\n", prog, optionsHelp())
		return nil
	case s.ShowVersion:
		fmt.Println(versionText())
		return nil
	case s.Shutdown:
		return shutdownServer(s)
	}
	if prog == "mongod" && s.DBPath == "" {
		s.DBPath = "/data/db"
	}
	if s.Fork && os.Getenv(forkedEnv) == "" {
		return fork(s, args)
	}
	return serve(s, prog)
}

func versionText() string {
	return fmt.Sprintf("db version v%s\nBuild Info: {\"version\": \"%s\", \"gitVersion\": \"%s\", \"goVersion\": \"%s\"}\ncairn %s", node.MongoVersion, node.MongoVersion, commit, runtime.Version(), version)
}

// serve runs a node until a signal or the shutdown command.
func serve(s *node.Settings, prog string) error {
	out, rotate, err := openLog(s)
	if err != nil {
		return &exitError{exitFailure, err}
	}
	level := new(slog.LevelVar)
	switch {
	case s.Quiet:
		level.Set(slog.LevelWarn)
	case s.Verbosity > 0:
		level.Set(slog.LevelDebug)
	}
	ring := node.NewLogRing()
	log := slog.New(slog.NewTextHandler(io.MultiWriter(out, ring), &slog.HandlerOptions{Level: level}))
	s.Log, s.LogSink, s.RotateLog, s.LogLevel = log, ring, rotate, level
	s.Version, s.Commit = version, commit
	s.Argv = os.Args
	s.EnsureDefaults()
	if err := s.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	if s.Backup, err = newServerBackup(s); err != nil {
		return &exitError{exitUsage, err}
	}
	defer limitMemory(s)()
	log.Info("starting", "version", version, "pid", os.Getpid(), "dbpath", s.DBPath, "repl_set", s.ReplSet, "cache_bytes", s.CacheBytes, "oplog_bytes", s.OplogBytes)
	stop := make(chan string, 2)
	var once sync.Once
	s.OnShutdown = func(bool) { once.Do(func() { stop <- "shutdown command" }) }
	sigs := make(chan os.Signal, 2)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	defer signal.Stop(sigs)
	n, err := node.Start(context.Background(), s.Config)
	if err != nil {
		return startError(err)
	}
	if s.PidFile != "" {
		if err := os.WriteFile(s.PidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return errors.Join(&exitError{exitFailure, fmt.Errorf("pid file: %w", err)}, n.Close())
		}
		defer os.Remove(s.PidFile)
	}
	stopMetrics, err := serveMetrics(s, n)
	if err != nil {
		return errors.Join(err, n.Close())
	}
	releaseProgram()
	announce(s, n, out)
	why := waitForEnd(sigs, stop, n, rotate, log)
	log.Info("shutting down", "reason", why)
	if err := errors.Join(stopMetrics(), n.Close()); err != nil {
		return &exitError{exitFailure, fmt.Errorf("shutdown: %w", err)}
	}
	log.Info("shut down cleanly")
	if n.Failure() != nil {
		return &exitError{exitFailure, n.Failure()}
	}
	return nil
}

func waitForEnd(sigs <-chan os.Signal, stop <-chan string, n *node.Node, rotate func() error, log *slog.Logger) string {
	for {
		select {
		case sig := <-sigs:
			if sig == syscall.SIGUSR1 {
				if rotate != nil {
					if err := rotate(); err != nil {
						log.Error("log rotation failed", "err", err)
					}
				}
				continue
			}
			return sig.String()
		case why := <-stop:
			return why
		case <-n.Failed():
			// Reads may still be answered; what is journaled is safe. Say so loudly and stay up.
			log.Error("the store failed and is read-only: stop the server, look after the disk, start it again", "cause", n.Failure())
			select {
			case sig := <-sigs:
				return sig.String()
			case why := <-stop:
				return why
			}
		}
	}
}

// announce says in one line where the server listens and how to connect. Harnesses
// that launch a mongod wait for "Waiting for connections" on standard output.
func announce(s *node.Settings, n *node.Node, log io.Writer) {
	fmt.Fprintf(os.Stdout, "Waiting for connections on port %d (%s); connect with: mongosh \"%s\"\n", n.Port(), strings.Join(s.BindIP, ","), n.URI())
	if log != os.Stdout { // harnesses also look for it in the log file
		fmt.Fprintf(log, "Waiting for connections on port %d\n", n.Port())
	}
}

func startError(err error) error {
	switch {
	case node.IsBadParameter(err):
		return &exitError{exitUsage, err}
	case errors.Is(err, syscall.EADDRINUSE):
		return &exitError{exitNet, err}
	case node.IsLocked(err), node.IsCorrupt(err):
		return &exitError{exitLocked, err}
	}
	return &exitError{exitFailure, err}
}

// limitMemory keeps the process, not only its cache, inside what it may use. Block
// cache and memtables lie on Go's heap, so without a limit the collector would let
// the process grow to a multiple of the cache. The returned function ends what it began.
func limitMemory(s *node.Settings) (end func()) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(min(s.CacheBytes+s.CacheBytes/4+384<<20, node.MemoryLimit()*85/100))
	}
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	done := make(chan struct{})
	go newGCPace().run(done)
	return func() { close(done) }
}

// openLog returns where log lines go, and how to rotate it if it is a file.
func openLog(s *node.Settings) (io.Writer, func() error, error) {
	if s.LogPath == "" {
		return os.Stdout, nil, nil
	}
	f, err := newLogFile(s.LogPath, s.LogAppend)
	if err != nil {
		return nil, nil, fmt.Errorf("log file: %w", err)
	}
	return f, f.rotate, nil
}

// logFile is a log file that can be renamed away while it is written to.
type logFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

func newLogFile(path string, appendTo bool) (*logFile, error) {
	l := &logFile{path: path}
	if _, err := os.Stat(path); err == nil && !appendTo {
		if err := l.rename(); err != nil {
			return nil, err
		}
	}
	return l, l.open()
}

func (l *logFile) open() (err error) {
	l.f, err = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return err
}

func (l *logFile) rename() error {
	return os.Rename(l.path, l.path+"."+time.Now().UTC().Format("2006-01-02T15-04-05"))
}

func (l *logFile) rotate() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.rename(); err != nil {
		return err
	}
	old := l.f
	if err := l.open(); err != nil {
		l.f = old
		return err
	}
	return old.Close()
}

// Write implements io.Writer.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(p)
}

// shutdownServer ends the server that holds the store's lock, as mongod --shutdown.
func shutdownServer(s *node.Settings) error {
	s.EnsureDefaults()
	pid, err := node.RunningPID(s.DBPath)
	if err != nil {
		return &exitError{exitFailure, fmt.Errorf("there doesn't seem to be a server running with dbpath: %s (%w)", s.DBPath, err)}
	}
	fmt.Printf("killing process with pid: %d\n", pid)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return &exitError{exitFailure, fmt.Errorf("could not signal process %d: %w", pid, err)}
	}
	if err := node.WaitUnlocked(s.DBPath, time.Minute); err != nil {
		return &exitError{exitFailure, err}
	}
	return nil
}

const forkedEnv = "CAIRN_FORKED"

// fork starts this program again in the background and returns when that one serves.
func fork(s *node.Settings, args []string) error {
	if s.LogPath == "" {
		return &exitError{exitUsage, errors.New("--fork has to be used with --logpath")}
	}
	self, err := os.Executable()
	if err != nil {
		return &exitError{exitFailure, err}
	}
	argv := append([]string{os.Args[0]}, os.Args[1:]...)
	r, w, err := os.Pipe()
	if err != nil {
		return &exitError{exitFailure, err}
	}
	devNull, err := os.Open(os.DevNull)
	if err != nil {
		return &exitError{exitFailure, err}
	}
	errFile, err := os.CreateTemp("", "cairn-fork-*")
	if err != nil {
		return &exitError{exitFailure, err}
	}
	defer os.Remove(errFile.Name())
	p, err := os.StartProcess(self, argv, &os.ProcAttr{Env: append(os.Environ(), forkedEnv+"=1"), Files: []*os.File{devNull, w, errFile}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return &exitError{exitFailure, err}
	}
	w.Close()
	fmt.Println("about to fork child process, waiting until server is ready for connections.")
	fmt.Println("forked process:", p.Pid)
	line := make([]byte, 4096)
	n, _ := r.Read(line)
	if !strings.Contains(string(line[:n]), "Waiting for connections") {
		st, _ := p.Wait()
		why, _ := os.ReadFile(filepath.Clean(errFile.Name()))
		os.Stderr.Write(why)
		return &exitError{max(st.ExitCode(), 1), fmt.Errorf("child process failed, exited with %d; see %s", st.ExitCode(), s.LogPath)}
	}
	fmt.Println("child process started successfully, parent exiting")
	return nil
}
