package chain

import (
	"slices"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// Kind is what a backup is.
type Kind string

// The kinds of backups. A Full holds data and the oplog of its own duration, a Slice a run of
// oplog entries, an Extension only says that nothing happened between two entries.
const (
	Full      Kind = "full"
	Slice     Kind = "slice"
	Extension Kind = "extension"
)

// Backup is one signed-off backup as the model sees it.
type Backup struct {
	ID   string
	Kind Kind
	// Start and End are the first and the last entry of its oplog, both in it. A full backup
	// is a consistent state at End, and at no moment before.
	Start, End OpTime
	Created    time.Time
	// Bytes is the size of its data before compression, Entries the number of oplog entries
	// after Start, Documents those of a full backup.
	Bytes, Entries, Documents int64
}

// Gap is a recorded interval whose entries are lost: everything after From and before or at To.
type Gap struct {
	ID string `json:"id"`
	// From is the last entry that was captured, To the first that was found after it.
	From  OpTime    `json:"from"`
	To    OpTime    `json:"to"`
	Why   string    `json:"why"`
	Found time.Time `json:"found"`
}

// Run is oplog without a hole, from the entry Start to the entry End, both in it.
type Run struct {
	Start, End OpTime
	Pieces     []Backup // ordered by start
	Fulls      []Backup // whose end lies in the run, ordered by end
}

// Window is a range of restorable moments: each from From to To, both inclusive.
type Window struct {
	From, To OpTime
	Fulls    []string
}

// Coverage is what a set of backups covers.
type Coverage struct {
	Backups []Backup // ordered by end
	Gaps    []Gap    // ordered by from
	Runs    []Run    // ordered by start
	Windows []Window // ordered by from
}

// New builds the coverage of backups and of the gaps that were recorded, in any order.
// Backups that overlap (a full one beside running slices, slices that were merged while the
// merged ones are still there) are welcome.
func New(backups []Backup, gaps []Gap) *Coverage {
	c := &Coverage{Backups: slices.Clone(backups), Gaps: slices.Clone(gaps)}
	slices.SortFunc(c.Backups, func(a, b Backup) int {
		if d := Compare(a.End.TS, b.End.TS); d != 0 {
			return d
		}
		return Compare(a.Start.TS, b.Start.TS)
	})
	slices.SortFunc(c.Gaps, func(a, b Gap) int { return Compare(a.From.TS, b.From.TS) })
	c.findRuns()
	for _, r := range c.Runs {
		if len(r.Fulls) == 0 {
			continue
		}
		w := Window{From: r.Fulls[0].End, To: r.End}
		for _, f := range r.Fulls {
			w.Fulls = append(w.Fulls, f.ID)
		}
		c.Windows = append(c.Windows, w)
	}
	return c
}

// findRuns joins pieces that share an entry. Two pieces that meet at one timestamp with
// different terms do not share it: one of the two entries was rolled back.
func (c *Coverage) findRuns() {
	pieces := slices.Clone(c.Backups)
	slices.SortStableFunc(pieces, func(a, b Backup) int { return Compare(a.Start.TS, b.Start.TS) })
	for _, p := range pieces {
		if i := c.runFor(p); i >= 0 {
			r := &c.Runs[i]
			r.Pieces = append(r.Pieces, p)
			if Compare(p.End.TS, r.End.TS) > 0 {
				r.End = p.End
			}
		} else {
			c.Runs = append(c.Runs, Run{Start: p.Start, End: p.End, Pieces: []Backup{p}})
		}
	}
	for i := range c.Runs {
		for _, p := range c.Runs[i].Pieces {
			if p.Kind == Full {
				c.Runs[i].Fulls = append(c.Runs[i].Fulls, p)
			}
		}
		slices.SortFunc(c.Runs[i].Fulls, func(a, b Backup) int { return Compare(a.End.TS, b.End.TS) })
	}
}

func (c *Coverage) runFor(p Backup) int {
	for i := len(c.Runs) - 1; i >= 0; i-- {
		r := c.Runs[i]
		if Compare(p.Start.TS, r.Start.TS) < 0 || Compare(p.Start.TS, r.End.TS) > 0 {
			continue
		}
		if p.Start.TS == r.End.TS && p.Start.Term != r.End.Term {
			continue
		}
		return i
	}
	return -1
}

// Head is the backup whose end the next slice starts from: the newest end of all. A run that a
// recorded gap begins at is dead, the server does not have its end any more: its end is the head
// only if there is no other.
func (c *Coverage) Head() (head Backup, ok bool) {
	for _, dead := range []bool{false, true} {
		for i := range c.Runs {
			r := &c.Runs[i]
			if c.dead(r) != dead {
				continue
			}
			for _, p := range r.Pieces {
				// At the same end a slice tells more: the chain was being continued.
				if d := Compare(p.End.TS, head.End.TS); d > 0 || d == 0 && head.Kind == Full {
					head, ok = p, true
				}
			}
		}
		if ok {
			return head, true
		}
	}
	return head, false
}

// Heads are the ends that the next slice may start from, the preferred first: where slices ended
// that a newer full backup does not join, so that what lies between is captured too as long as
// the server has it, then Head.
func (c *Coverage) Heads() (heads []Backup) {
	head, ok := c.Head()
	if !ok {
		return nil
	}
	var sliced *Run
	for i := range c.Runs {
		r := &c.Runs[i]
		isSlice := func(p Backup) bool { return p.Kind != Full }
		if !c.dead(r) && slices.ContainsFunc(r.Pieces, isSlice) && (sliced == nil || Compare(r.End.TS, sliced.End.TS) > 0) {
			sliced = r
		}
	}
	if sliced != nil && Compare(sliced.End.TS, head.End.TS) < 0 {
		i := slices.IndexFunc(sliced.Pieces, func(p Backup) bool { return p.End == sliced.End })
		heads = append(heads, sliced.Pieces[i])
	}
	return append(heads, head)
}

func (c *Coverage) dead(r *Run) bool {
	for _, g := range c.Gaps {
		if g.From == r.End {
			return true
		}
	}
	return false
}

// Newest is the newest restorable moment.
func (c *Coverage) Newest() (OpTime, bool) {
	var best OpTime
	for _, w := range c.Windows {
		if Compare(w.To.TS, best.TS) > 0 {
			best = w.To
		}
	}
	return best, !best.IsNull()
}

// Covers says whether the moment can be restored.
func (c *Coverage) Covers(ts bson.Timestamp) bool {
	for _, w := range c.Windows {
		if Compare(w.From.TS, ts) <= 0 && Compare(ts, w.To.TS) <= 0 {
			return true
		}
	}
	return false
}

// OpenGaps are the recorded gaps that no run covers by now; a gap can be covered when an
// overlapping full backup's own oplog reaches over it.
func (c *Coverage) OpenGaps() (open []Gap) {
next:
	for _, g := range c.Gaps {
		for _, r := range c.Runs {
			if Compare(r.Start.TS, g.From.TS) <= 0 && Compare(g.To.TS, r.End.TS) <= 0 {
				continue next
			}
		}
		open = append(open, g)
	}
	return open
}

// Hole is an interval between two windows in which nothing can be restored.
type Hole struct {
	After, Before OpTime
	// Gap is the recorded reason, nil if there were simply no backups.
	Gap *Gap
}

// Holes are the intervals between the windows.
func (c *Coverage) Holes() (holes []Hole) {
	for i := 1; i < len(c.Windows); i++ {
		h := Hole{After: c.Windows[i-1].To, Before: c.Windows[i].From}
		if Compare(h.After.TS, h.Before.TS) >= 0 {
			continue // two histories after a rollback: they overlap in time
		}
		for _, g := range c.Gaps {
			if Compare(g.From.TS, h.Before.TS) < 0 && Compare(g.To.TS, h.After.TS) > 0 {
				h.Gap = &g
				break
			}
		}
		holes = append(holes, h)
	}
	return holes
}
