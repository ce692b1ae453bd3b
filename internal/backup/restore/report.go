package restore

import (
	"context"
	"fmt"

	"github.com/cairndb/cairn/internal/backup/tool"
)

// printPlan is --dryRun: what would be created, dropped and overwritten, and how many
// bytes there are. It goes to standard error like all that is not data.
func (r *Restore) printPlan(ctx context.Context) error {
	var bytes, created, dropped, added int64
	for _, t := range r.plan.tasks {
		there, err := r.exists(ctx, t.db, t.coll)
		if err != nil {
			return err
		}
		what := "collection"
		switch t.typ {
		case "view":
			what = "view"
		case "timeseries":
			what = "time-series collection"
		}
		var do string
		switch {
		case there && r.o.Output.Drop && !isSystem(t.coll):
			do = "drop and create"
			dropped++
			created++
		case there:
			do = "add to the existing"
			added++
		default:
			do = "create"
			created++
		}
		from := ""
		if t.src != t.namespace() {
			from = " from " + t.src
		}
		r.log.Always("would %s %s %s%s: %s, %d %s", do, what, t.namespace(), from, r.sizeText(t),
			r.indexCount(t), tool.Plural(r.indexCount(t), "index", "indexes"))
		bytes += t.size
	}
	if r.wantsUsers() {
		how := "merge"
		if r.o.Output.Drop {
			how = "replace"
		}
		r.log.Always("would %s users and roles", how)
	}
	if t := r.plan.oplog; t != nil && r.o.Input.OplogReplay {
		r.log.Always("would replay the oplog from %s: %s", t.location, r.sizeText(t))
		bytes += t.size
	}
	total := bytesText(bytes)
	if r.archive != nil {
		total = "an archive, whose size shows when it is read"
	}
	r.log.Always("%d to create, %d to drop before, %d to add to; %s", created, dropped, added, total)
	return nil
}

func (r *Restore) indexCount(t *task) int64 {
	if t.meta == nil || r.o.Output.NoIndexRestore {
		return 0
	}
	return int64(len(t.meta.Indexes))
}

func (r *Restore) sizeText(t *task) string {
	switch {
	case !t.hasData:
		return "no data"
	case r.archive != nil && t.size == 0 || t.location == "-":
		return "size not known"
	case t.form != plain:
		return bytesText(t.size) + " packed"
	}
	return bytesText(t.size)
}

func isSystem(coll string) bool { return len(coll) > 7 && coll[:7] == "system." }

// bytesText is a size for people.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d %s", n, tool.Plural(n, "byte", "bytes"))
	}
	f, i := float64(n)/unit, 0
	for f >= unit && i < 3 {
		f, i = f/unit, i+1
	}
	return fmt.Sprintf("%.1f %s", f, []string{"KiB", "MiB", "GiB", "TiB"}[i])
}
