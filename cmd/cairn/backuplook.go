package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/find"
	"github.com/cairndb/cairn/internal/backup/pitr/picture"
	"github.com/cairndb/cairn/internal/backup/pitr/results"
	"github.com/cairndb/cairn/internal/backup/tool"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

func newBackupStatus(f *backupFlags) *cobra.Command {
	var maxLag time.Duration
	cmd := backupCommand(f, "status", "Say how backups stand: lag, newest restorable second, how long the oplog still reaches, last verify and drill",
		`  cairn backup status
  cairn backup status --max-lag 10m --json      # for a monitor: exit code 4 if anything is wrong`, wantsServer,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			s, err := e.Status(ctx)
			if err != nil {
				return nil, err
			}
			r := results.NewStatus(e.Repo.URL(), s, maxLag)
			if maxLag > 0 && !r.OK {
				return r, &exitError{exitDamage, fmt.Errorf("not all is well: %v", r.Problems)}
			}
			return r, nil
		})
	cmd.Flags().DurationVar(&maxLag, "max-lag", 0, "end with exit code 4 if the lag is larger or anything else is wrong")
	return cmd
}

func newBackupList(f *backupFlags) *cobra.Command {
	var html string
	var all bool
	cmd := backupCommand(f, "list", "List the backups, the recoverable window in exact numbers, and a picture of it with its gaps",
		`  cairn backup list
  cairn backup list --html /var/www/backups.html`, needsRepo,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			st, err := e.State(ctx)
			if err != nil {
				return nil, err
			}
			if html != "" {
				if err := writeHTML(html, picture.Page{Repository: e.Repo.URL(), Source: st.Source(), Made: time.Now(), Coverage: st.Coverage}); err != nil {
					return nil, err
				}
			}
			return results.NewList(e.Repo.URL(), st, f.style(), all), nil
		})
	cmd.Flags().StringVar(&html, "html", "", "also write a page with the timeline to this file")
	cmd.Flags().BoolVar(&all, "all", false, "list every slice")
	return cmd
}

// writeHTML writes the page whole or not at all.
func writeHTML(path string, p picture.Page) error {
	w, err := tool.CreateWhole(path)
	if err != nil {
		return err
	}
	if err := picture.HTML(w, p); err != nil {
		w.Abort()
		return err
	}
	return w.Commit()
}

// style is how to draw on standard output.
func (f *backupFlags) style() picture.Style {
	s := picture.Style{Width: 100, ASCII: f.ascii || os.Getenv("TERM") == "dumb", Zone: time.UTC}
	if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		s.Width, s.Color = min(w, 160), os.Getenv("NO_COLOR") == ""
	}
	return s
}

func newBackupVerify(f *backupFlags) *cobra.Command {
	var o pitr.VerifyOptions
	cmd := backupCommand(f, "verify", "Check every object's checksum, that every chain is contiguous, and counts and hashes",
		`  cairn backup verify                       # reads everything
  cairn backup verify --quick               # all small objects; that the large ones are there
  cairn backup verify --percent 10 --turn "$(date +%j)"   # a tenth each day`, needsRepo,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			v, err := e.Verify(ctx, o, func(line string) { fmt.Fprintln(os.Stderr, line) })
			if v == nil {
				return nil, err
			}
			return results.NewVerify(v), err
		})
	cmd.Flags().BoolVar(&o.Quick, "quick", false, "read no data, only everything small")
	cmd.Flags().Float64Var(&o.Percent, "percent", 0, "read this part of the packs byte by byte instead of all")
	cmd.Flags().IntVar(&o.Turn, "turn", 0, "which part: with 0, 1, 2, … all are read in time")
	return cmd
}

func newBackupDrill(f *backupFlags) *cobra.Command {
	var o pitr.DrillOptions
	to := "latest"
	cmd := backupCommand(f, "drill", "Restore a moment into a throw-away server and compare it; the result is kept in the repository",
		`  cairn backup drill                        # the newest moment
  cairn backup drill --random --no-source   # some other one
  30 4 * * *  cairn backup drill --random   # in a crontab`, wantsServer,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			var err error
			if o.To, err = parseMoment(to); err != nil {
				return nil, err
			}
			d, err := e.Drill(ctx, o)
			if d == nil {
				return nil, err
			}
			return results.NewDrill(d), err
		})
	cmd.Flags().StringVar(&to, "to", to, "the moment: "+chain.MomentHelp)
	cmd.Flags().BoolVar(&o.Random, "random", false, "a random moment of the recoverable window")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "directory for the throw-away server's data")
	cmd.Flags().BoolVar(&o.NoSource, "no-source", false, "do not read the server that was backed up for a comparison")
	return cmd
}

// parseMoment reads a moment given on the command line.
func parseMoment(text string) (chain.Moment, error) {
	m, err := chain.ParseMoment(text, time.Now(), time.Local)
	if err != nil {
		return m, &exitError{exitUsage, err}
	}
	return m, nil
}

func newBackupFindChange(f *backupFlags) *cobra.Command {
	var o pitr.ChangesOptions
	filter, from, to := "{}", "", ""
	cmd := backupCommand(f, "find-change", "Find the oplog entries that changed documents",
		`  cairn backup find-change --ns shop.orders --filter '{"_id": 42}'
  cairn backup find-change --ns shop.orders --filter '{"status": "paid"}' --from "2h ago"`, needsRepo,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			var err error
			if o.Filter, err = extjson.Unmarshal([]byte(filter)); err != nil {
				return nil, &exitError{exitUsage, fmt.Errorf("--filter: %w", err)}
			}
			if o.From, o.To, err = interval(from, to); err != nil {
				return nil, err
			}
			changes := []*results.Change{}
			s, err := e.Changes(ctx, o, func(c find.Change) error {
				line := results.NewChange(c)
				if f.json {
					changes = append(changes, line)
				} else {
					line.Text(f.out)
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
			return &foundChanges{results.NewSearched(s), changes}, nil
		})
	cmd.Flags().StringVar(&o.NS, "ns", "", "the collection, database.collection")
	cmd.Flags().StringVar(&filter, "filter", filter, "which documents, in extended JSON: equality and comparisons on fields")
	cmd.Flags().StringVar(&from, "from", "", "from this moment on (everything that is stored)")
	cmd.Flags().StringVar(&to, "to", "", "up to this moment, inclusive")
	return cmd
}

// foundChanges is the end of find-change; the changes themselves come line by line, in JSON as a list.
type foundChanges struct {
	*results.Searched
	List []*results.Change `json:"list"`
}

// interval reads the two ends of a time.
func interval(from, to string) (a, b chain.Moment, err error) {
	if from != "" {
		if a, err = parseMoment(from); err != nil {
			return a, b, err
		}
	}
	if to != "" && to != "latest" {
		b, err = parseMoment(to)
	}
	return a, b, err
}
