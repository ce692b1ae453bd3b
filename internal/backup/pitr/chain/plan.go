package chain

import (
	"fmt"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// Plan is how a moment is brought back: the full backup, its own oplog, then the pieces in
// order, of which each shares an entry with what came before.
type Plan struct {
	To     bson.Timestamp // inclusive
	Full   Backup
	Pieces []Backup
}

// NotRestorableError says why a moment cannot be restored and which are nearest to it.
type NotRestorableError struct {
	To bson.Timestamp
	// Before and After are the nearest restorable moments on each side, nil if there is none.
	Before, After *bson.Timestamp
	// Gap is the recorded gap that holds the moment, nil if none does.
	Gap *Gap
}

func (e *NotRestorableError) Error() string {
	if e.To == 0 {
		return "nothing can be restored: the repository holds no full backup"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s cannot be restored: ", Describe(e.To))
	switch {
	case e.Gap != nil:
		fmt.Fprintf(&b, "it lies in the gap from %s to %s (%s)", Describe(e.Gap.From.TS), Describe(e.Gap.To.TS), e.Gap.Why)
	case e.Before == nil && e.After == nil:
		b.WriteString("the repository holds no full backup")
	case e.Before == nil:
		b.WriteString("it is older than every backup")
	case e.After == nil && e.Before.Seconds() == e.To.Seconds():
		b.WriteString("its second is not yet complete in the backups")
	case e.After == nil:
		b.WriteString("it is newer than every backup")
	default:
		b.WriteString("no backup covers it")
	}
	switch {
	case e.Before != nil && e.After != nil:
		fmt.Fprintf(&b, "; the nearest moments that can be restored are %s before it and %s after it", Describe(*e.Before), Describe(*e.After))
	case e.Before != nil:
		fmt.Fprintf(&b, "; the nearest moment that can be restored is %s", Describe(*e.Before))
	case e.After != nil:
		fmt.Fprintf(&b, "; the nearest moment that can be restored is %s", Describe(*e.After))
	}
	return b.String()
}

// Plan finds the way to a moment with the least oplog to replay. The error is a
// *NotRestorableError.
func (c *Coverage) Plan(to bson.Timestamp) (Plan, error) {
	var best Plan
	found := false
	for i := range c.Runs {
		r := &c.Runs[i]
		if Compare(to, r.End.TS) > 0 {
			continue
		}
		for j := len(r.Fulls) - 1; j >= 0; j-- {
			f := r.Fulls[j]
			if Compare(f.End.TS, to) > 0 || found && Compare(f.End.TS, best.Full.End.TS) <= 0 {
				continue
			}
			if pieces, ok := r.Cover(f.End.TS, to); ok {
				best, found = Plan{To: to, Full: f, Pieces: pieces}, true
			}
			break
		}
	}
	if !found {
		return Plan{}, c.notRestorable(to)
	}
	return best, nil
}

// Cover chooses pieces of the run that reach from one moment to another, each time the one
// that reaches furthest, so that as few as possible are read. It chooses none if the moments are one.
func (r *Run) Cover(from, to bson.Timestamp) (chosen []Backup, ok bool) {
	for Compare(from, to) < 0 {
		var next *Backup
		for i := range r.Pieces {
			p := &r.Pieces[i]
			if Compare(p.Start.TS, from) > 0 {
				break // ordered by start
			}
			if Compare(p.End.TS, from) > 0 && (next == nil || Compare(p.End.TS, next.End.TS) > 0) {
				next = p
			}
		}
		if next == nil {
			return nil, false
		}
		chosen = append(chosen, *next)
		from = next.End.TS
	}
	return chosen, true
}

func (c *Coverage) notRestorable(to bson.Timestamp) *NotRestorableError {
	e := &NotRestorableError{To: to}
	for _, w := range c.Windows {
		if Compare(w.To.TS, to) <= 0 && (e.Before == nil || Compare(w.To.TS, *e.Before) > 0) {
			e.Before = &w.To.TS
		}
		if Compare(w.From.TS, to) > 0 && (e.After == nil || Compare(w.From.TS, *e.After) < 0) {
			e.After = &w.From.TS
		}
	}
	for _, g := range c.Gaps {
		if Compare(g.From.TS, to) < 0 && Compare(to, g.To.TS) <= 0 {
			e.Gap = &g
		}
	}
	// A recorded gap ends where oplog begins again, but nothing is restorable before the next full backup.
	if e.Gap == nil && e.Before != nil && e.After != nil {
		for _, g := range c.Gaps {
			if Compare(g.From.TS, to) < 0 && Compare(g.From.TS, *e.Before) >= 0 {
				e.Gap = &g
			}
		}
	}
	return e
}
