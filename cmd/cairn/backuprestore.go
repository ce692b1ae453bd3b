package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/results"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// selection adds the flags that choose what is restored.
func selection(cmd *cobra.Command, o *pitr.RestoreOptions) {
	fl := cmd.Flags()
	fl.StringArrayVar(&o.Include, "ns", nil, "restore only this namespace, such as shop.orders or 'shop.*'; may be repeated")
	fl.StringArrayVar(&o.Exclude, "exclude-ns", nil, "leave this namespace out; may be repeated")
	fl.StringArrayVar(&o.Rename, "rename", nil, "restore under another name: shop.orders=shop.orders_old; may be repeated")
	fl.BoolVar(&o.SplitTransactions, "split-transactions", false, "of a transaction that writes chosen and other namespaces, replay the chosen part; otherwise it is refused")
}

func newBackupRestore(f *backupFlags) *cobra.Command {
	var o pitr.RestoreOptions
	to, uuids := "", ""
	plan, yes := false, false
	cmd := backupCommand(f, "restore", "Restore to a moment, exact to the oplog entry and inclusive",
		`  cairn backup restore --to latest
  cairn backup restore --to "2026-11-26 14:05:00" --plan
  cairn backup restore --to 1795695900:17 --ns shop.orders --rename shop.orders=shop.orders_before
  cairn backup restore --to "10m ago" --yes --verify --uri mongodb://other:27017`, needsServer,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			var err error
			if to == "" {
				return nil, &exitError{exitUsage, errors.New("say to which moment: --to latest, --to TIME or --to SECONDS:INCREMENT")}
			}
			if o.To, err = parseMoment(to); err != nil {
				return nil, err
			}
			switch uuids {
			case "auto":
			case "yes", "no":
				keep := uuids == "yes"
				o.KeepUUIDs = &keep
			default:
				return nil, &exitError{exitUsage, errors.New("--uuids takes auto, yes or no")}
			}
			o.Resumable = true
			p, err := e.PlanRestore(ctx, o)
			if err != nil {
				return nil, err
			}
			if plan {
				return results.NewPlan(p), nil
			}
			if len(p.Overwritten) > 0 && !yes {
				if err := confirm(p); err != nil {
					return nil, err
				}
			}
			r, err := e.Restore(ctx, p, o)
			if r == nil {
				if err != nil && ctx.Err() == nil {
					err = fmt.Errorf("%w (the same command goes on from here)", err)
				}
				return nil, err
			}
			return results.NewRestore(r), err
		})
	selection(cmd, &o)
	fl := cmd.Flags()
	fl.StringVar(&to, "to", "", "the moment: "+chain.MomentHelp)
	fl.BoolVar(&plan, "plan", false, "say what would happen and touch nothing")
	fl.BoolVar(&yes, "yes", false, "drop what is in the way on the target without asking")
	fl.BoolVar(&o.Verify, "verify", false, "compare what was restored with the backup at the end")
	fl.BoolVar(&o.Restart, "restart", false, "forget an unfinished restore of something else on the target")
	fl.BoolVar(&o.NoUsers, "no-users", false, "leave users and roles as they are")
	fl.StringVar(&uuids, "uuids", "auto", "give collections the UUIDs they had: auto, yes, no")
	return cmd
}

// confirm asks before anything is dropped.
func confirm(p *pitr.RestorePlan) error {
	refused := func(why string) error {
		return &exitError{exitRefused, fmt.Errorf("%s: %s on the target would be dropped (%s); --plan shows all, --yes drops them", why, tool.Count(len(p.Overwritten), "collection", "collections"), some(p.Overwritten))}
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stderr.Fd())) {
		return refused("nobody is there to confirm")
	}
	var b strings.Builder
	results.NewPlan(p).Text(&b)
	fmt.Fprint(os.Stderr, b.String(), "\nDrop these collections and restore? Type yes: ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "yes" {
		return refused("not confirmed")
	}
	return nil
}

func some(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

func newBackupServe(f *backupFlags) *cobra.Command {
	var o pitr.RestoreOptions
	at, dir := "latest", ""
	cmd := backupCommand(f, "serve", "Serve a moment read-only, to look before restoring, or to copy something out",
		`  cairn backup serve --at "2026-11-26 14:05"
  cairn backup serve --at 1795695900:17 --ns shop.orders     # prints a connection string; Ctrl-C ends it
  mongodump --uri mongodb://127.0.0.1:PORT --db shop         # copy it out meanwhile`, needsRepo,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			var err error
			if o.To, err = parseMoment(at); err != nil {
				return nil, err
			}
			if !f.quiet && e.Say == nil {
				e.Say = tool.NewLog(os.Stderr, 0).Always
			}
			s, err := e.Serve(ctx, o, dir)
			if err != nil {
				return nil, err
			}
			served := &results.Served{URI: s.URI, Restore: results.NewRestore(s.Restored)}
			if f.json {
				err = results.JSON(f.out, served)
			} else {
				served.Text(f.out)
			}
			if err == nil {
				<-ctx.Done()
			}
			return nil, errors.Join(err, s.Close())
		})
	selection(cmd, &o)
	cmd.Flags().StringVar(&at, "at", at, "the moment: "+chain.MomentHelp)
	cmd.Flags().StringVar(&dir, "dir", "", "directory for the server's data, which is removed at the end")
	return cmd
}

func newBackupPrune(f *backupFlags) *cobra.Command {
	var o pitr.PruneOptions
	within := ""
	cmd := backupCommand(f, "prune", "Delete backups that are not to be kept, and the data that nothing needs any more",
		`  cairn backup prune --keep-within 14d --keep-weekly 8 --keep-monthly 12 --dry-run
  cairn backup prune --keep-last 3`, needsRepo,
		func(ctx context.Context, e *pitr.Env) (results.Report, error) {
			if within != "" {
				d, err := chain.ParseDuration(within)
				if err != nil {
					return nil, &exitError{exitUsage, fmt.Errorf("--keep-within: %w", err)}
				}
				o.Policy.Within = d
			}
			if o.Policy == (chain.Policy{}) {
				return nil, &exitError{exitUsage, errors.New("say what to keep: at least one of --keep-last, --keep-hourly, --keep-daily, --keep-weekly, --keep-monthly, --keep-within")}
			}
			o.Zone = time.Local
			p, err := e.Prune(ctx, o)
			if err != nil && p.Decisions == nil {
				return nil, err
			}
			return results.NewPrune(p, o.DryRun), err
		})
	fl := cmd.Flags()
	fl.IntVar(&o.Policy.Last, "keep-last", 0, "keep the last N full backups and every moment since the oldest of them")
	fl.IntVar(&o.Policy.Hourly, "keep-hourly", 0, "keep a full backup of each of the last N hours that have one")
	fl.IntVar(&o.Policy.Daily, "keep-daily", 0, "… of the last N days")
	fl.IntVar(&o.Policy.Weekly, "keep-weekly", 0, "… of the last N weeks")
	fl.IntVar(&o.Policy.Monthly, "keep-monthly", 0, "… of the last N months")
	fl.StringVar(&within, "keep-within", "", "keep every moment of this long before the newest, such as 14d")
	fl.BoolVar(&o.DryRun, "dry-run", false, "say what would be deleted and delete nothing")
	fl.DurationVar(&o.Wait, "wait", 0, "wait so long for running backups, to delete at once what they may still need")
	return cmd
}
