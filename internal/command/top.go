package command

import (
	"sort"
	"strings"
	"sync"
	"time"
)

// topGroups are the columns of top, in its order.
var topGroups = [...]string{"total", "readLock", "writeLock", "queries", "getmore", "insert", "update", "remove", "commands"}

// top sums time and operations by namespace.
type top struct {
	mu sync.Mutex
	m  map[string]*[len(topGroups)]topCount
}

type topCount struct{ micros, count int64 }

// add counts one finished command on ns.
func (t *top) add(ns, command string, took time.Duration) {
	lock, group := 1, 8
	switch command {
	case "find", "count", "distinct", "aggregate":
		group = 3
	case "getMore":
		group = 4
	case "insert":
		lock, group = 2, 5
	case "update", "findAndModify":
		lock, group = 2, 6
	case "delete":
		lock, group = 2, 7
	}
	us := took.Microseconds()
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.m[ns]
	if row == nil {
		if t.m == nil {
			t.m = map[string]*[len(topGroups)]topCount{}
		}
		row = new([len(topGroups)]topCount)
		t.m[strings.Clone(ns)] = row
	}
	for _, g := range [...]int{0, lock, group} {
		row[g].micros += us
		row[g].count++
	}
}

func runTop(c *Ctx) error {
	t := &c.Node.Counters.top
	t.mu.Lock()
	defer t.mu.Unlock()
	names := make([]string, 0, len(t.m))
	for ns := range t.m {
		names = append(names, ns)
	}
	sort.Strings(names)
	b := c.Reply.Doc("totals").Str("note", "all times in microseconds")
	for _, ns := range names {
		b.Doc(ns)
		for g, name := range topGroups {
			b.Doc(name).Int64("time", t.m[ns][g].micros).IntOrLong("count", t.m[ns][g].count).End()
		}
		b.End()
	}
	b.End()
	return nil
}
