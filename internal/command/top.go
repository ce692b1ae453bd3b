package command

import (
	"math/bits"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// topGroups are the columns of top, in its order.
var topGroups = [...]string{"total", "readLock", "writeLock", "queries", "getmore", "insert", "update", "remove", "commands"}

// top sums time and operations by namespace.
type top struct {
	mu sync.Mutex
	m  map[string]*topRow
}

type topCount struct{ micros, count int64 }

// latencyGroups are the rows of $collStats' latencyStats, by the groups of top in them.
var latencyGroups = [...]struct {
	name   string
	groups []int
}{{"reads", []int{3, 4}}, {"writes", []int{5, 6, 7}}, {"commands", []int{8}}, {"transactions", nil}}

// topRow is one namespace: its columns, and for each group of latencyStats how many
// operations took [2^(i-1), 2^i) microseconds.
type topRow struct {
	counts [len(topGroups)]topCount
	hist   [len(latencyGroups)][40]int64
}

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
			t.m = map[string]*topRow{}
		}
		row = new(topRow)
		t.m[strings.Clone(ns)] = row
	}
	for _, g := range [...]int{0, lock, group} {
		row.counts[g].micros += us
		row.counts[g].count++
	}
	for i, l := range latencyGroups {
		if slices.Contains(l.groups, group) {
			row.hist[i][min(bits.Len64(uint64(us)), len(row.hist[i])-1)]++
		}
	}
}

// writeLatency appends the groups of latencyStats of a namespace.
func (t *top) writeLatency(b *bson.Builder, ns string, histograms bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.m[ns]
	if row == nil {
		row = &topRow{}
	}
	for i, l := range latencyGroups {
		var sum topCount
		for _, g := range l.groups {
			sum.micros += row.counts[g].micros
			sum.count += row.counts[g].count
		}
		b.Doc(l.name)
		if histograms {
			b.Array("histogram")
			for bit, n := range row.hist[i] {
				if n > 0 {
					b.Doc("").Int64("micros", int64(1)<<bit>>1).Int64("count", n).End()
				}
			}
			b.End()
		}
		b.Int64("latency", sum.micros).Int64("ops", sum.count).End()
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
			c := t.m[ns].counts[g]
			b.Doc(name).Int64("time", c.micros).IntOrLong("count", c.count).End()
		}
		b.End()
	}
	b.End()
	return nil
}
