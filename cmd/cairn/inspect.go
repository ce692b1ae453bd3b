package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cairndb/cairn/internal/node"
)

func newInspectCommand() *cobra.Command {
	var o node.InspectOptions
	cmd := &cobra.Command{
		Use:   "inspect DIR",
		Short: "Show what is in a closed store",
		Long: `Show what is in a closed store, without changing it: format version, journal, what a
start would replay, and every collection with its indexes, counts and sizes.

Exit codes: 0 shown, 1 the store is damaged or in use, 2 wrong arguments.`,
		Example: `  cairn inspect /var/lib/cairn
  cairn inspect --json /var/lib/cairn
  cairn inspect --oplog 20 /var/lib/cairn      # the newest 20 oplog entries`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInspect(cmd.Context(), cmd.OutOrStdout(), args[0], o)
		},
	}
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print one JSON document")
	cmd.Flags().IntVar(&o.Oplog, "oplog", 0, "also print the newest N oplog entries")
	return cmd
}

func runInspect(ctx context.Context, out io.Writer, dir string, o node.InspectOptions) error {
	if ctx == nil {
		ctx = context.Background()
	}
	if err := node.Inspect(ctx, out, dir, o); err != nil {
		return &exitError{exitFailure, fmt.Errorf("inspect %s: %w", dir, err)}
	}
	return nil
}
