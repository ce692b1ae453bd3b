// Command cairn is the whole of Cairn in one binary: `cairn serve` runs the server,
// `cairn inspect` looks into a closed store, `cairn dump`, `restore` and `bsondump` are the
// tools, `cairn backup` is the repository of backups. Called through a link named mongod,
// mongodump, mongorestore or bsondump it takes that program's command line.
//
// This package holds flags and exit codes only; what they do lives in internal/node,
// internal/backup and below.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// version and commit are stamped by the linker (see the Makefile).
var (
	version = "dev"
	commit  = ""
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1   // the command ran and failed
	exitUsage   = 2   // the command line or a configuration file is wrong
	exitNet     = 48  // the port is taken (mongod's EXIT_NET_ERROR)
	exitLocked  = 100 // the store is in use or cannot be read (mongod's EXIT_UNCAUGHT)
)

// exitError carries an exit code; a usage error also says how to get help.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	switch strings.TrimSuffix(filepath.Base(args[0]), ".exe") {
	case "mongod":
		return report("mongod", "mongod", runServe("mongod", args[1:]))
	case "mongorestore":
		return runRestore(args[1:], true)
	case "mongodump":
		return runDump(args[1:], true)
	case "bsondump":
		return runBSONDump(args[1:], true)
	}
	root := &cobra.Command{
		Use:           "cairn",
		Short:         "A MongoDB-compatible document database in one binary",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
	}
	root.AddCommand(newServeCommand(), newInspectCommand(), newVersionCommand(), newDumpCommand(), newRestoreCommand(), newBSONDumpCommand(), newBackupCommand())
	root.SetArgs(args[1:])
	err := root.Execute()
	command := "cairn"
	if c, _, ferr := root.Find(args[1:]); ferr == nil {
		command = c.CommandPath()
	}
	return report("cairn", command, err)
}

// report prints an error to standard error and chooses the exit code; command is whose help would help.
func report(prog, command string, err error) int {
	if err == nil {
		return exitOK
	}
	var said silentError
	if errors.As(err, &said) {
		return said.code
	}
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{exitUsage, err} // cobra's own errors are about the command line
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", prog, e.err)
	if e.code == exitUsage {
		fmt.Fprintf(os.Stderr, "try '%s --help' for more information\n", command)
	}
	return e.code
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), versionText())
			return nil
		},
	}
}
