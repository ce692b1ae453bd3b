package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/cairndb/cairn/internal/backup/restore"
	"github.com/cairndb/cairn/internal/backup/tool"
)

func newRestoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "restore",
		Short:              "Restore a dump of cairn dump or mongodump",
		DisableFlagParsing: true, // its command line is mongorestore's
		RunE:               func(_ *cobra.Command, args []string) error { return codeOf(runRestore(args, false)) },
	}
}

// runRestore is mongorestore, or `cairn restore`.
func runRestore(args []string, original bool) int {
	o, err := restore.ParseOptions(tool.Config{Version: toolVersion(original), Commit: commit}, original, args)
	if err != nil {
		return refuse(o.Config.Name, "error parsing command line options: ", err)
	}
	if helpOrVersion(o.Options) {
		return exitOK
	}
	log := tool.NewLog(os.Stderr, o.LogLevel())
	for _, w := range o.Warnings {
		log.Always("%s", w)
	}
	toolProcess(o.General.MaxProcs)
	o.Stdin = os.Stdin
	o.Memory = func(n int64) { debug.SetMemoryLimit(n) } // what is garbage goes back to the system before that
	ctx, stop := tool.WithSignals(context.Background(), log, func() { os.Exit(exitFailure) })
	defer stop()
	client, err := o.Connect(ctx)
	if err != nil {
		log.Always("error connecting to host: %v", err)
		return exitFailure
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }()
	server, err := tool.Facts(ctx, client)
	if err != nil {
		log.Always("error getting server version: %v", err)
		return exitFailure
	}
	progress := toolProgress(log, original)
	result, err := restore.New(o, client, server, log, progress).Run(ctx)
	progress.Stop()
	if err != nil {
		log.Always("Failed: %v", err)
	}
	if o.Acknowledged() {
		log.Always("%v document(s) restored successfully. %v document(s) failed to restore.", result.Successes, result.Failures)
	} else {
		log.Always("done")
	}
	if err != nil {
		return exitFailure
	}
	return exitOK
}
