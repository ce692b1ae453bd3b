package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cairndb/cairn/internal/backup/restore"
	"github.com/cairndb/cairn/internal/backup/tool"
)

func newRestoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "restore",
		Short:              "Restore a dump of cairn dump or mongodump",
		DisableFlagParsing: true, // its command line is mongorestore's
		RunE: func(_ *cobra.Command, args []string) error {
			return exitWith(runRestore(false, args))
		},
	}
}

// exitWith makes an error of an exit code whose reason was said already.
func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

// runRestore is `cairn restore` and, with original, mongorestore.
func runRestore(original bool, args []string) int {
	o, err := restore.ParseOptions(tool.Config{Version: toolVersion(original), Commit: commit}, original, args)
	if errors.Is(err, tool.ErrVerbosity) {
		fmt.Fprintln(os.Stderr, err)
		return 255
	}
	log := tool.NewLog(os.Stderr, o.LogLevel())
	for _, w := range o.Warnings {
		log.Always("%s", w)
	}
	if err != nil {
		log.Always("error parsing command line options: %s", err)
		log.Always("try '%s --help' for more information", o.Config.Name)
		return exitFailure
	}
	switch {
	case o.General.Help:
		o.WriteHelp(os.Stdout)
		return exitOK
	case o.General.Version:
		fmt.Print(o.VersionText())
		return exitOK
	}
	o.Stdin = os.Stdin
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
	progress := tool.NewProgress(log, tool.ProgressOptions{Terminal: os.Stderr})
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
