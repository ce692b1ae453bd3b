package command

import (
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// topGroups are the columns of top, in its order.
var topGroups = [...]string{"total", "readLock", "writeLock", "queries", "getmore", "insert", "update", "remove", "commands"}

// top sums time and operations by namespace. Every command adds to it: commands keep each other
// out only where one of them is the first of its namespace.
type top struct {
	mu sync.RWMutex
	m  map[string]*topRow
}

type topCount struct{ micros, count atomic.Int64 }

// latencyGroups are the rows of $collStats' latencyStats, by the groups of top in them.
var latencyGroups = [...]struct {
	name   string
	groups []int
}{{"reads", []int{3, 4}}, {"writes", []int{5, 6, 7}}, {"commands", []int{8}}, {"transactions", nil}}

// latencyOf is the row of latencyGroups in which a group of top is.
var latencyOf = func() (of [len(topGroups)]int) {
	for i, l := range latencyGroups {
		for _, g := range l.groups {
			of[g] = i
		}
	}
	return of
}()

// topRow is one namespace: its columns, and for each group of latencyStats how many
// operations took [2^(i-1), 2^i) microseconds.
type topRow struct {
	counts [len(topGroups)]topCount
	hist   [len(latencyGroups)][40]atomic.Int64
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
	row := t.row(ns)
	if row == nil {
		row = t.newRow(strings.Clone(ns))
	}
	for _, g := range [...]int{0, lock, group} {
		row.counts[g].micros.Add(us)
		row.counts[g].count.Add(1)
	}
	hist := &row.hist[latencyOf[group]]
	hist[min(bits.Len64(uint64(us)), len(hist)-1)].Add(1)
}

// row is the row of a namespace, nil if it has none.
func (t *top) row(ns string) *topRow {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[ns]
}

func (t *top) newRow(ns string) *topRow {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.m[ns]
	if row == nil { // else somebody was faster
		if t.m == nil {
			t.m = map[string]*topRow{}
		}
		row = new(topRow)
		t.m[ns] = row
	}
	return row
}

// drop forgets what was counted of the namespaces.
func (t *top) drop(namespaces ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ns := range namespaces {
		delete(t.m, ns)
	}
}

// dropDatabase forgets what was counted of a database.
func (t *top) dropDatabase(db string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.m, func(ns string, _ *topRow) bool { return len(ns) > len(db) && ns[:len(db)] == db && ns[len(db)] == '.' })
}

// all returns the rows there are.
func (t *top) all() map[string]*topRow {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.m)
}

// writeLatency appends the groups of latencyStats of a namespace.
func (t *top) writeLatency(b *bson.Builder, ns string, histograms bool) {
	row := t.row(ns)
	if row == nil {
		row = &topRow{}
	}
	for i, l := range latencyGroups {
		var micros, count int64
		for _, g := range l.groups {
			micros += row.counts[g].micros.Load()
			count += row.counts[g].count.Load()
		}
		b.Doc(l.name)
		if histograms {
			b.Array("histogram")
			for bit := range row.hist[i] {
				if n := row.hist[i][bit].Load(); n > 0 {
					b.Doc("").Int64("micros", int64(1)<<bit>>1).Int64("count", n).End()
				}
			}
			b.End()
		}
		b.Int64("latency", micros).Int64("ops", count).End()
	}
}

func runTop(c *Ctx) error {
	rows := c.Node.Counters.top.all()
	b := c.Reply.Doc("totals").Str("note", "all times in microseconds")
	for _, ns := range slices.Sorted(maps.Keys(rows)) {
		b.Doc(ns)
		for g, name := range topGroups {
			c := &rows[ns].counts[g]
			b.Doc(name).Int64("time", c.micros.Load()).IntOrLong("count", c.count.Load()).End()
		}
		b.End()
	}
	b.End()
	return nil
}
