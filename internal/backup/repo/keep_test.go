package repo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// keptBy returns the ids that are kept, the newest first.
func keptBy(k Keep, items []Item, loc *time.Location) (ids []string, reasons map[string][]string) {
	reasons = map[string][]string{}
	for _, v := range k.Apply(items, loc) {
		if v.Kept {
			ids = append(ids, v.ID)
			reasons[v.ID] = v.Reasons
		}
	}
	return ids, reasons
}

func TestKeep(t *testing.T) {
	start := time.Date(2026, 10, 1, 0, 30, 0, 0, time.UTC)
	var hourly []Item // 60 days, each hour; id is days.hours
	for h := range 60 * 24 {
		hourly = append(hourly, Item{ID: fmt.Sprintf("%d.%d", h/24, h%24), Time: start.Add(time.Duration(h) * time.Hour)})
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	check(t, err)
	for _, c := range []struct {
		name string
		keep Keep
		loc  *time.Location
		want string
	}{
		{"nothing", Keep{}, time.UTC, ""},
		{"last", Keep{Last: 3}, time.UTC, "59.23 59.22 59.21"},
		{"daily", Keep{Daily: 3}, time.UTC, "59.23 58.23 57.23"},
		{"daily elsewhere", Keep{Daily: 2}, berlin, "59.23 59.22"},
		{"hourly and daily share", Keep{Hourly: 2, Daily: 2}, time.UTC, "59.23 59.22 58.23"},
		{"weekly", Keep{Weekly: 3}, time.UTC, "59.23 59.23 52.23 45.23"},
		{"monthly", Keep{Monthly: -1}, time.UTC, "59.23 30.23"},
		{"yearly", Keep{Yearly: 5}, time.UTC, "59.23"},
		{"within", Keep{Within: 2 * time.Hour}, time.UTC, "59.23 59.22 59.21"},
	} {
		got, _ := keptBy(c.keep, hourly, c.loc)
		want := slices.Compact(strings.Fields(c.want))
		if c.name == "weekly" { // 2026-11-29 is a Sunday
			want = []string{"59.23", "52.23", "45.23"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
}

func TestKeepNeeds(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	items := []Item{
		{ID: "full1", Time: day(1)}, {ID: "slice1", Time: day(2), Needs: []string{"full1"}},
		{ID: "slice2", Time: day(3), Needs: []string{"slice1"}}, {ID: "full2", Time: day(4)},
		{ID: "orphan", Time: day(5), Needs: []string{"gone"}},
	}
	got, why := keptBy(Keep{Last: 3}, items, time.UTC)
	if !slices.Equal(got, []string{"orphan", "full2", "slice2", "slice1", "full1"}) {
		t.Fatalf("kept %v", got)
	}
	if !slices.Equal(why["full1"], []string{"needed by slice1"}) || !slices.Equal(why["full2"], []string{"last 2"}) {
		t.Fatalf("reasons %v", why)
	}
	if got, _ := keptBy(Keep{Last: 2}, items, time.UTC); !slices.Equal(got, []string{"orphan", "full2"}) {
		t.Fatalf("kept %v", got)
	}
}

// Whatever the policy: what a kept item needs is kept, each count is respected, and a larger
// policy keeps no less.
func TestKeepProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "n")
		items := make([]Item, n)
		for i := range items {
			items[i] = Item{ID: fmt.Sprint(i), Time: time.Unix(rapid.Int64Range(0, 400*86400).Draw(t, "at"), 0)}
			if i > 0 && rapid.Bool().Draw(t, "needs") {
				items[i].Needs = []string{fmt.Sprint(rapid.IntRange(0, i-1).Draw(t, "parent"))}
			}
		}
		num := rapid.IntRange(0, 5)
		k := Keep{Last: num.Draw(t, "last"), Hourly: num.Draw(t, "hourly"), Daily: num.Draw(t, "daily"), Weekly: num.Draw(t, "weekly"), Monthly: num.Draw(t, "monthly")}
		kept, _ := keptBy(k, items, time.UTC)
		set := map[string]bool{}
		for _, id := range kept {
			set[id] = true
		}
		for _, it := range items {
			for _, need := range it.Needs {
				if set[it.ID] && !set[need] {
					t.Fatalf("%s is kept, what it needs (%s) is not", it.ID, need)
				}
			}
		}
		if k.Last > 0 && len(kept) < min(k.Last, n) {
			t.Fatalf("kept %d of %d with last %d", len(kept), n, k.Last)
		}
		more := k
		more.Daily++
		wider, _ := keptBy(more, items, time.UTC)
		for _, id := range kept {
			if !slices.Contains(wider, id) {
				t.Fatalf("%s is kept by %+v, not by %+v", id, k, more)
			}
		}
	})
}
