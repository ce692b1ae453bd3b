package main

import (
	"math"
	"math/rand/v2"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestHistogramQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var all []time.Duration
	for range 20_000 {
		d := time.Duration(1) << rng.IntN(34)
		d += time.Duration(rng.Int64N(int64(d)))
		h.record(d)
		all = append(all, d)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
		want := all[int(q*float64(len(all)-1))]
		got := h.quantile(q)
		if got < want || float64(got) > float64(want)*1.016+1 {
			t.Errorf("quantile %v: got %d, want %d to 1.6 %% above", q, got, want)
		}
	}
}

func TestHistogramBucketsAreOrderedAndTight(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 127, 128, 129, 255, 256, 1 << 20, 1<<20 - 1, 1<<40 + 12345, 1<<63 - 1} {
		i := bucket(d)
		if upper(i) < d || (i > 0 && upper(i-1) >= d) {
			t.Errorf("%d is in bucket %d, whose bounds are %d and %d", d, i, upper(i-1)+1, upper(i))
		}
	}
}

// The shares of a zipfian distribution are known: rank r has 1/(r+1)^theta of the sum.
func TestZipfianShares(t *testing.T) {
	const n, draws = 1000, 400_000
	z := newZipfian(n)
	rng := rand.New(rand.NewPCG(3, 4))
	count := make([]int, n)
	for range draws {
		count[z.next(rng)]++
	}
	for r, tolerance := range map[int]float64{0: 0.03, 1: 0.03, 20: 0.25, 200: 0.35} {
		got := float64(count[r]) / draws
		want := 1 / z.zetan / math.Pow(float64(r+1), zipfTheta)
		if got < want*(1-tolerance) || got > want*(1+tolerance) {
			t.Errorf("rank %d: share %.5f, want %.5f within %v", r, got, want, tolerance)
		}
	}
	hot := map[int]bool{}
	for range 1000 {
		hot[z.scrambled(rng)/100] = true
	}
	if len(hot) != 10 {
		t.Errorf("scrambled draws reach only %d of 10 regions", len(hot))
	}
}

func TestChooseRows(t *testing.T) {
	for filter, want := range map[string]string{
		"ping":           "ping",
		"insertOne":      "insertOne", // an exact name is not a prefix
		"ycsb-A,ping":    "ping ycsb-A",
		"scan":           "scan-fresh scan-settled",
		"insert,ycsb-F,": "",
	} {
		rows, err := chooseRows(allRows(), strings.TrimSuffix(filter, ","))
		var names []string
		for _, r := range rows {
			names = append(names, r.name)
		}
		got := strings.Join(names, " ")
		if want == "" {
			want = "insertOne insertOne-j insertOne-j64 insertMany ycsb-F"
		}
		if err != nil || got != want {
			t.Errorf("--rows %s: got %q %v, want %q", filter, got, err, want)
		}
	}
	if _, err := chooseRows(allRows(), "nosuch"); err == nil {
		t.Error("an unknown row was accepted")
	}
}

func TestOwnProcessIsMeasured(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc on this system: the program then reports no CPU and no memory")
	}
	before, ok := cpuTime(os.Getpid())
	for x := 0; ok; x++ { // until the clock of the process has moved
		now, known := cpuTime(os.Getpid())
		if !known || now > before {
			ok = known
			break
		}
	}
	rss, peak := memory(os.Getpid())
	if !ok || rss < 1<<20 || peak < rss {
		t.Errorf("cpu known %v, rss %d, peak %d", ok, rss, peak)
	}
}

func TestLocalPort(t *testing.T) {
	for uri, want := range map[string]int{
		"mongodb://127.0.0.1:2/x?a=b": 2, "mongodb://localhost/": 27017, "mongodb://u:p@[::1]:5": 5,
		"mongodb://db.example:1": 0, "mongodb://localhost:1,localhost:2": 0,
	} {
		if got, ok := localPort(uri); got != want || ok != (want != 0) {
			t.Errorf("%s: got %d %v, want %d", uri, got, ok, want)
		}
	}
}

func TestCompareTable(t *testing.T) {
	a := &report{Label: "A", Docs: 1, Rows: []result{
		{Name: "ping", Unit: "operations", Rate: 20_000, P99: 2 * time.Millisecond, CPU: 30 * time.Microsecond},
		{Name: "group", Err: "not there"}, {Name: "load", Unit: "documents", Rate: 1_234_567}}}
	b := &report{Label: "B", Docs: 1, Rows: []result{
		{Name: "ping", Unit: "operations", Rate: 10_000, P99: time.Millisecond, CPU: 60 * time.Microsecond},
		{Name: "group", Unit: "documents", Rate: 5}}}
	var out strings.Builder
	compare(&out, a, b)
	want := `row                 A            B  rate A÷B  p99 A÷B  CPU A÷B
ping      20,000 op/s  10,000 op/s      2.00     2.00     0.50
group               -    5.0 doc/s
load   1,234,567 doc/s            -
`
	if got := squeeze(out.String()); got != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// Rows that are judged by ping are shown as a share of the ping beside them and of the ping row,
// each where it was measured; no ratio is made of a row that failed.
func TestRatios(t *testing.T) {
	ping := result{Name: "ping", Unit: "operations", Rate: 20_000}
	find := result{Name: "findOne", Unit: "operations", Rate: 8_000, PingRate: 10_000}
	update := result{Name: "updateOne", Unit: "operations", Rate: 6_000}
	for name, tc := range map[string]struct {
		rows []result
		want string
	}{
		"both":        {[]result{ping, find, update}, "\nrate ÷ ping's, measured beside the row: findOne 0.80\nrate ÷ the ping row's, of another minute: findOne 0.40, updateOne 0.30\n"},
		"later":       {[]result{{Name: "findOne", Rate: 8_000, PingRate: 10_000, LaterRate: 8_500, LaterPingRate: 10_000}}, "\nrate ÷ ping's, measured beside the row: findOne 0.80 (0.85 without the first second)\n"},
		"no ping row": {[]result{find, update}, "\nrate ÷ ping's, measured beside the row: findOne 0.80\n"},
		"failed":      {[]result{{Name: "ping", Err: "x"}, {Name: "findOne", Rate: 1, PingRate: 1, Err: "x"}}, ""},
	} {
		var out strings.Builder
		(&report{Rows: tc.rows}).ratios(&out)
		if out.String() != tc.want {
			t.Errorf("%s: got %q, want %q", name, out.String(), tc.want)
		}
	}
}

// squeeze makes runs of spaces one: the widths are not what the test is about.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.Join(strings.Fields(l), " ")
	}
	return strings.Join(lines, "\n")
}

func TestFindSyncs(t *testing.T) {
	doc, err := bson.Marshal(bson.D{{Key: "syncs", Value: 1}, {Key: "cairn", Value: bson.D{{Key: "journal", Value: bson.D{{Key: "bytes", Value: 2}, {Key: "syncs", Value: int64(3)}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := findSyncs(doc, false); n != 3 || !ok {
		t.Errorf("got %d %v, want the journal's 3", n, ok)
	}
}

// What batch copies together is what Marshal makes of the documents.
func TestBatchIsTheDocuments(t *testing.T) {
	e := &env{pads: makePads(1, 300)}
	docs, err := e.batch(990, 1300)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range docs {
		want, err := bson.Marshal(e.document(990 + i))
		if err != nil {
			t.Fatal(err)
		}
		if string(got.(bson.Raw)) != string(want) {
			t.Fatalf("document %d is %s, want %s", 990+i, got, bson.Raw(want))
		}
	}
}

// The rate behind a mark leaves out what was done before it; without anything behind it there is none.
func TestLaterRate(t *testing.T) {
	m := &measured{workers: []*worker{{units: 10}}, elapsed: time.Second}
	at := m.mark()
	if got := m.since(at); got != 0 {
		t.Errorf("nothing was done since: %v", got)
	}
	m.workers[0].units, m.elapsed = 50, 3*time.Second
	if got := m.since(mark{}); got != 0 {
		t.Errorf("without a mark: %v", got)
	}
	if got := m.since(at); got != 20 {
		t.Errorf("got %v units a second, want 20", got)
	}
}
