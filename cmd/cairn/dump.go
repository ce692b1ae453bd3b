package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/cairndb/cairn/internal/backup/dump"
	"github.com/cairndb/cairn/internal/backup/tool"
)

func newDumpCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "dump",
		Short:              "Copy the content of a server into files or an archive (mongodump)",
		DisableFlagParsing: true, // its flags are mongodump's, and parsed as mongodump does
		RunE:               func(_ *cobra.Command, args []string) error { return codeOf(runDump(args, false)) },
	}
}

// silentError carries the exit code of a tool that has said what went wrong already.
type silentError struct{ code int }

func (silentError) Error() string { return "" }

// codeOf turns a tool's exit code into what report understands.
func codeOf(code int) error {
	if code == exitOK {
		return nil
	}
	return silentError{code}
}

// toolVersion is what a tool says its version is: under its original's name the version
// it behaves as.
func toolVersion(original bool) string {
	if original {
		return tool.OriginalVersion
	}
	return version + " (mongodb tools " + tool.OriginalVersion + ")"
}

// refuse says why a command line is not taken.
func refuse(name, prefix string, err error) int {
	log := tool.NewLog(os.Stderr, 0)
	if errors.Is(err, tool.ErrVerbosity) {
		log.Always("%v", err)
		return 255
	}
	log.Always("%s%v", prefix, err)
	log.Always("try '%s --help' for more information", name)
	return exitFailure
}

// toolProcess sets the process up for moving bytes: few long-lived small objects and many
// large buffers that are soon garbage.
func toolProcess(procs int) {
	if procs > 0 {
		runtime.GOMAXPROCS(procs)
	}
	debug.SetGCPercent(200)
}

// toolProgress shows progress on standard error: bars on a terminal for the tools, lines
// under the originals' names.
func toolProgress(log *tool.Log, original bool) *tool.Progress {
	o := tool.ProgressOptions{Terminal: os.Stderr}
	if original {
		o.Terminal = nil
	}
	return tool.NewProgress(log, o)
}

// runDump is mongodump, or `cairn dump`.
func runDump(args []string, original bool) int {
	opts, err := dump.ParseOptions(args, original, toolVersion(original), commit)
	if opts == nil {
		name := "mongodump"
		if !original {
			name = "cairn dump"
		}
		return refuse(name, "error parsing command line options: ", err)
	}
	if done := helpOrVersion(opts.Options); done {
		return exitOK
	}
	log := tool.NewLog(os.Stderr, opts.LogLevel())
	for _, w := range opts.Warnings {
		log.Always("%s", w)
	}
	toolProcess(opts.General.MaxProcs)
	// What is garbage here are a few large buffers without pointers: collecting it costs
	// next to nothing, so it is done as often as it takes to stay small.
	debug.SetMemoryLimit(64 << 20)
	ctx, stop := tool.WithSignals(context.Background(), log, func() { os.Exit(exitFailure) })
	defer stop()
	progress := toolProgress(log, original)
	_, err = dump.Run(ctx, opts, log, progress, os.Stdout)
	progress.Stop()
	if err != nil {
		log.Always("Failed: %v", err)
		return exitFailure
	}
	return exitOK
}

func helpOrVersion(o *tool.Options) bool {
	switch {
	case o.General.Help:
		o.WriteHelp(os.Stdout)
	case o.General.Version:
		_, _ = os.Stdout.WriteString(o.VersionText())
	default:
		return false
	}
	return true
}
