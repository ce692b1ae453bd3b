package gauges

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/bson"
)

// read gathers what is registered as lines "name{label} value".
func read(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range all {
		for _, m := range f.Metric {
			b.WriteString(strings.TrimPrefix(f.GetName(), "cairn_backup_"))
			for _, l := range m.Label {
				b.WriteString("/" + l.GetValue())
			}
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			b.WriteString(" " + bson.V(v).String() + "\n")
		}
	}
	return b.String()
}

func TestGauges(t *testing.T) {
	s, running := pitr.RunStatus{}, false
	reg := prometheus.NewRegistry()
	if err := New(reg, func() (pitr.RunStatus, bool) { return s, running }); err != nil {
		t.Fatal(err)
	}
	if got := read(t, reg); got != "up 0.0\n" {
		t.Errorf("before the start: %s", got)
	}
	running = true
	if got := read(t, reg); !strings.Contains(got, "up 1.0\n") || strings.Contains(got, "lag") || strings.Contains(got, "last_") {
		t.Errorf("what is not known yet is shown: %s", got)
	}
	s = pitr.RunStatus{
		Captured: chain.OpTime{TS: bson.NewTimestamp(1010, 1)}, Stored: chain.OpTime{TS: bson.NewTimestamp(1007, 9)}, StoredAt: time.Unix(1008, 0),
		Slices: 3, Entries: 40, Bytes: 500, Fulls: 1, Retries: 2, Gaps: 1, FullRunning: true, LastFull: time.Unix(900, 0),
		LastError: "no", LastErrorAt: time.Unix(800, 0), LastVerify: time.Unix(700, 0), LastVerifyOK: true, LastDrill: time.Unix(600, 0),
		Requests: repo.Requests{Put: 11, Get: 12, Head: 13, List: 14, Delete: 15, BytesUp: 16, BytesDown: 17},
	}
	want := []string{"up 0", "lag_seconds 3", "newest_restorable_timestamp_seconds 1007", "stored_timestamp_seconds 1008", "slices_total 3", "entries_total 40", "bytes_total 500",
		"full_backups_total 1", "failures_total 2", "gaps_total 1", "full_running 1", "last_full_timestamp_seconds 900", "last_failure_timestamp_seconds 800",
		"last_verify_timestamp_seconds 700", "last_verify_ok 1", "last_drill_timestamp_seconds 600", "last_drill_ok 0",
		"store_requests_total/put 11", "store_requests_total/get 12", "store_requests_total/head 13", "store_requests_total/list 14", "store_requests_total/delete 15",
		"store_bytes_total/up 16", "store_bytes_total/down 17"}
	got := read(t, reg)
	for _, w := range want {
		if !strings.Contains("\n"+got, "\n"+w+".0\n") {
			t.Errorf("%q is missing in\n%s", w, got)
		}
	}
	if n := strings.Count(got, "\n"); n != len(want) {
		t.Errorf("%d figures, want %d:\n%s", n, len(want), got)
	}
}
