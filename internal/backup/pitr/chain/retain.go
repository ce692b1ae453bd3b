package chain

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Policy says what to keep. The counts choose full backups, as restore points: the newest of
// each of the last N hours, days, weeks, months that have one. Within keeps every moment of the
// time before the newest backup restorable.
type Policy struct {
	Last, Hourly, Daily, Weekly, Monthly int
	Within                               time.Duration
}

// Decision is what happens to one backup and why.
type Decision struct {
	Backup  Backup
	Keep    bool
	Reasons []string
}

// Retain applies a policy. Decisions are ordered by the end of the backups.
//
// Always kept are the newest full backup and everything that continues it, so that the chain
// that is being written stays whole. Oplog is kept without a hole from the oldest full backup
// that Last chose, and for Within from the full backup that its oldest moment is restored from;
// a full backup kept for its hour, day, week or month only is a restore point by itself.
// A policy that names nothing is refused: it would delete nearly everything.
func (c *Coverage) Retain(p Policy, loc *time.Location) ([]Decision, error) {
	if p == (Policy{}) {
		return nil, errors.New("say what to keep: at least one of --keep-last, --keep-hourly, --keep-daily, --keep-weekly, --keep-monthly, --keep-within")
	}
	if min(p.Last, p.Hourly, p.Daily, p.Weekly, p.Monthly) < 0 || p.Within < 0 {
		return nil, errors.New("a number of backups to keep cannot be negative")
	}
	decisions := make([]Decision, len(c.Backups))
	var fulls []int // newest first
	for i, b := range c.Backups {
		decisions[i] = Decision{Backup: b}
		if b.Kind == Full {
			fulls = append(fulls, i)
		}
	}
	slices.Reverse(fulls)
	keep := func(i int, why string, args ...any) {
		d := &decisions[i]
		d.Keep = true
		if why = fmt.Sprintf(why, args...); !slices.Contains(d.Reasons, why) {
			d.Reasons = append(d.Reasons, why)
		}
	}
	if len(fulls) == 0 { // nothing can be restored yet, but a full backup may be under way
		for i := range decisions {
			keep(i, "no full backup is there yet")
		}
		return decisions, nil
	}
	keep(fulls[0], "newest full backup")
	for n, i := range fulls[:min(p.Last, len(fulls))] {
		keep(i, "last %d", n+1)
	}
	for _, r := range rules(p, loc) {
		c.keepNewestOfEach(fulls, r, keep)
	}
	from := c.Backups[fulls[0]]
	if p.Last > 0 {
		from = c.Backups[fulls[min(p.Last, len(fulls))-1]]
	}
	if p.Within > 0 {
		within := Clock(c.Backups[len(c.Backups)-1].End.TS).Add(-p.Within)
		base := fulls[len(fulls)-1]
		for _, i := range fulls { // the newest one that is not after the oldest moment
			if !Clock(c.Backups[i].End.TS).After(within) {
				base = i
				break
			}
		}
		for _, i := range fulls {
			if i >= base {
				keep(i, "within %s", shortDuration(p.Within))
			}
		}
		if b := c.Backups[base]; Compare(b.End.TS, from.End.TS) < 0 {
			from = b
		}
	}
	// What ends before the oldest full backup of the continuous part is not needed to
	// restore any of its moments: a full backup carries its own oplog, transactions that
	// were open at its start included.
	for i, b := range c.Backups {
		if b.Kind != Full && Compare(b.End.TS, from.End.TS) > 0 {
			keep(i, "oplog since %s", from.ID)
		}
	}
	return decisions, nil
}

type rule struct {
	name   string
	n      int
	period func(time.Time) string
}

func rules(p Policy, loc *time.Location) []rule {
	in := func(layout string) func(time.Time) string {
		return func(t time.Time) string { return t.In(loc).Format(layout) }
	}
	week := func(t time.Time) string {
		y, w := t.In(loc).ISOWeek()
		return fmt.Sprintf("%d-W%02d", y, w)
	}
	return []rule{
		{"hourly", p.Hourly, in("2006-01-02 15h")}, {"daily", p.Daily, in("2006-01-02")},
		{"weekly", p.Weekly, week}, {"monthly", p.Monthly, in("2006-01")},
	}
}

func (c *Coverage) keepNewestOfEach(fulls []int, r rule, keep func(int, string, ...any)) {
	last := ""
	for _, i := range fulls {
		if r.n == 0 {
			return
		}
		if p := r.period(Clock(c.Backups[i].End.TS)); p != last {
			keep(i, "%s %s", r.name, p)
			last, r.n = p, r.n-1
		}
	}
}

func shortDuration(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.String()
}
