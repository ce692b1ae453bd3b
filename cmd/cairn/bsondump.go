package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cairndb/cairn/internal/backup/bsondump"
	"github.com/cairndb/cairn/internal/backup/tool"
)

func newBSONDumpCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "bsondump",
		Short:              "Print the documents of a .bson file (bsondump)",
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return codeOf(runBSONDump(args, false)) },
	}
}

// runBSONDump is bsondump, or `cairn bsondump`.
func runBSONDump(args []string, original bool) int {
	opts, err := bsondump.ParseOptions(args, original, toolVersion(original), commit)
	if err != nil {
		name := "bsondump"
		if !original {
			name = "cairn bsondump"
		}
		return refuse(name, "", err)
	}
	if helpOrVersion(opts.Options) {
		return exitOK
	}
	log := tool.NewLog(os.Stderr, opts.LogLevel())
	signal.Ignore(syscall.SIGPIPE) // a reader that has seen enough is an error of the write
	in, out, closeFiles, err := opts.Open(os.Stdin, os.Stdout)
	if err != nil {
		log.Always("%v", err)
		return exitFailure
	}
	log.Debug("running bsondump with --objcheck: %v", opts.Output.ObjCheck)
	n, err := bsondump.Run(opts, log, in, out)
	log.Always("%v objects found", n)
	if cerr := closeFiles(err == nil); err == nil {
		err = cerr
	}
	if err != nil {
		log.Always("%v", err)
		return exitFailure
	}
	return exitOK
}
