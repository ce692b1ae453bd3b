package gauges

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cairndb/cairn/internal/backup/pitr"
)

// metric is one figure of a status.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	label string
	value func(*pitr.RunStatus) (v float64, ok bool)
}

// run is a prometheus.Collector.
type run struct {
	status  func() (s pitr.RunStatus, running bool)
	up      *prometheus.Desc
	metrics []metric
}

// New registers the figures of a continuous backup. running is false while there is none, because it
// has not begun yet, or has ended: then only cairn_backup_up is shown, as 0.
func New(reg prometheus.Registerer, status func() (s pitr.RunStatus, running bool)) error {
	r := &run{status: status, up: prometheus.NewDesc("cairn_backup_up", "1 if the backup runs and its last attempt did not fail.", nil, nil)}
	add := func(name, help string, kind prometheus.ValueType, value func(*pitr.RunStatus) (float64, bool)) {
		r.metrics = append(r.metrics, metric{prometheus.NewDesc("cairn_backup_"+name, help, nil, nil), kind, "", value})
	}
	gauge := func(name, help string, value func(*pitr.RunStatus) (float64, bool)) {
		add(name, help, prometheus.GaugeValue, value)
	}
	count := func(name, help string, value func(*pitr.RunStatus) int64) {
		add(name, help, prometheus.CounterValue, func(s *pitr.RunStatus) (float64, bool) { return float64(value(s)), true })
	}
	gauge("lag_seconds", "How far what is stored is behind what was read of the server.", func(s *pitr.RunStatus) (float64, bool) { return s.Lag().Seconds(), !s.Stored.IsNull() })
	gauge("newest_restorable_timestamp_seconds", "The newest moment that can be restored.", func(s *pitr.RunStatus) (float64, bool) { return float64(s.Stored.TS.Seconds()), !s.Stored.IsNull() })
	gauge("stored_timestamp_seconds", "When the newest slice was signed off.", func(s *pitr.RunStatus) (float64, bool) { return at(s.StoredAt) })
	count("slices_total", "Slices that were signed off.", func(s *pitr.RunStatus) int64 { return s.Slices })
	count("entries_total", "Oplog entries in them.", func(s *pitr.RunStatus) int64 { return s.Entries })
	count("bytes_total", "Bytes of oplog in them, before compression.", func(s *pitr.RunStatus) int64 { return s.Bytes })
	count("full_backups_total", "Full backups that were taken.", func(s *pitr.RunStatus) int64 { return s.Fulls })
	count("failures_total", "Attempts that failed.", func(s *pitr.RunStatus) int64 { return s.Retries })
	count("gaps_total", "Gaps that were found: oplog that was lost.", func(s *pitr.RunStatus) int64 { return s.Gaps })
	gauge("full_running", "1 while a full backup is taken.", func(s *pitr.RunStatus) (float64, bool) { return truth(s.FullRunning), true })
	gauge("last_full_timestamp_seconds", "When the newest full backup was signed off.", func(s *pitr.RunStatus) (float64, bool) { return at(s.LastFull) })
	gauge("last_failure_timestamp_seconds", "When an attempt failed last.", func(s *pitr.RunStatus) (float64, bool) { return at(s.LastErrorAt) })
	gauge("last_verify_timestamp_seconds", "When the repository was verified last.", func(s *pitr.RunStatus) (float64, bool) { return at(s.LastVerify) })
	gauge("last_verify_ok", "1 if that found nothing wrong.", func(s *pitr.RunStatus) (float64, bool) { return truth(s.LastVerifyOK), !s.LastVerify.IsZero() })
	gauge("last_drill_timestamp_seconds", "When a restore was tried last.", func(s *pitr.RunStatus) (float64, bool) { return at(s.LastDrill) })
	gauge("last_drill_ok", "1 if it came back as it should.", func(s *pitr.RunStatus) (float64, bool) { return truth(s.LastDrillOK), !s.LastDrill.IsZero() })
	requests := prometheus.NewDesc("cairn_backup_store_requests_total", "Requests to the store.", []string{"operation"}, nil)
	bytes := prometheus.NewDesc("cairn_backup_store_bytes_total", "Bytes of objects to (up) and from (down) the store.", []string{"direction"}, nil)
	for _, l := range []struct {
		desc  *prometheus.Desc
		label string
		value func(*pitr.RunStatus) int64
	}{
		{requests, "put", func(s *pitr.RunStatus) int64 { return s.Requests.Put }},
		{requests, "get", func(s *pitr.RunStatus) int64 { return s.Requests.Get }},
		{requests, "head", func(s *pitr.RunStatus) int64 { return s.Requests.Head }},
		{requests, "list", func(s *pitr.RunStatus) int64 { return s.Requests.List }},
		{requests, "delete", func(s *pitr.RunStatus) int64 { return s.Requests.Delete }},
		{bytes, "up", func(s *pitr.RunStatus) int64 { return s.Requests.BytesUp }},
		{bytes, "down", func(s *pitr.RunStatus) int64 { return s.Requests.BytesDown }},
	} {
		r.metrics = append(r.metrics, metric{l.desc, prometheus.CounterValue, l.label, func(s *pitr.RunStatus) (float64, bool) { return float64(l.value(s)), true }})
	}
	return reg.Register(r)
}

func at(t time.Time) (float64, bool) { return float64(t.UnixMilli()) / 1e3, !t.IsZero() }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (r *run) Describe(out chan<- *prometheus.Desc) {
	out <- r.up
	for i := range r.metrics {
		out <- r.metrics[i].desc
	}
}

// Collect implements prometheus.Collector.
func (r *run) Collect(out chan<- prometheus.Metric) {
	s, running := r.status()
	out <- prometheus.MustNewConstMetric(r.up, prometheus.GaugeValue, truth(running && s.LastError == ""))
	if !running {
		return
	}
	for i := range r.metrics {
		m := &r.metrics[i]
		v, ok := m.value(&s)
		if !ok {
			continue
		}
		var labels []string
		if m.label != "" {
			labels = []string{m.label}
		}
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
}
