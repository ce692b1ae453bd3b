package repo

import (
	"fmt"
	"slices"
	"time"
)

// Keep is a policy of retention. Each number keeps so many of the newest items that are the last
// of their hour, day, week (from Monday), month or year; -1 keeps all of them. Within keeps all
// that are not older than that before the newest item. The zero value keeps nothing.
type Keep struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
	Within                                       time.Duration
}

// Empty says that the policy keeps nothing.
func (k Keep) Empty() bool { return k == Keep{} }

// Item is what a policy is applied to: a backup, or a chain of them.
type Item struct {
	ID    string
	Time  time.Time // of the moment it restores
	Needs []string  // items without which it cannot be restored
}

// Verdict says for one item whether it is kept, and why.
type Verdict struct {
	Item
	Kept    bool
	Reasons []string // "last 1", "daily 2026-11-26", "needed by ID"
}

// Apply judges items, the newest first. What a kept item needs is kept, and what that needs. The
// periods are those of loc. An item that needs one that is not there is judged like the others: a
// policy breaks nothing that was not broken before.
func (k Keep) Apply(items []Item, loc *time.Location) []Verdict {
	out := make([]Verdict, len(items))
	for i, it := range items {
		out[i] = Verdict{Item: it}
	}
	slices.SortStableFunc(out, func(a, b Verdict) int { return b.Time.Compare(a.Time) })
	at := map[string]int{}
	for i := range out {
		at[out[i].ID] = i
	}
	for _, p := range k.periods() {
		left, last := p.keep, ""
		for i := range out {
			name := p.name(i, out[i].Time.In(loc))
			if left == 0 {
				break
			}
			if name == last {
				continue // not the last of its period
			}
			last = name
			left--
			out[i].Reasons = append(out[i].Reasons, name)
		}
	}
	if k.Within > 0 && len(out) > 0 {
		for i := range out {
			if out[0].Time.Sub(out[i].Time) <= k.Within {
				out[i].Reasons = append(out[i].Reasons, "within "+k.Within.String())
			}
		}
	}
	for i := range out {
		if len(out[i].Reasons) > 0 {
			keepNeeded(out, at, i)
		}
	}
	return out
}

// keepNeeded keeps an item with all that it needs.
func keepNeeded(out []Verdict, at map[string]int, i int) {
	if out[i].Kept {
		return
	}
	out[i].Kept = true
	for _, id := range out[i].Needs {
		j, ok := at[id]
		if !ok {
			continue
		}
		if len(out[j].Reasons) == 0 {
			out[j].Reasons = append(out[j].Reasons, "needed by "+out[i].ID)
		}
		keepNeeded(out, at, j)
	}
}

type period struct {
	keep int
	name func(i int, t time.Time) string
}

func (k Keep) periods() []period {
	by := func(label, layout string) func(int, time.Time) string {
		return func(_ int, t time.Time) string { return label + " " + t.Format(layout) }
	}
	return []period{
		{k.Last, func(i int, _ time.Time) string { return fmt.Sprintf("last %d", i+1) }},
		{k.Hourly, by("hourly", "2006-01-02 15h -0700")}, // the offset tells the doubled hour of autumn apart
		{k.Daily, by("daily", "2006-01-02")},
		{k.Weekly, func(_ int, t time.Time) string {
			y, w := t.ISOWeek()
			return fmt.Sprintf("weekly %d-W%02d", y, w)
		}},
		{k.Monthly, by("monthly", "2006-01")},
		{k.Yearly, by("yearly", "2006")},
	}
}
