package metrics

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cairndb/cairn/internal/bson"
)

// figure is one figure of serverStatus.
type figure struct {
	path  string // in the reply
	name  string // without "cairn_"
	value string // of the name's label, if it has one
	scale float64
}

// family says what a name means; figures with the same name are told apart by its label.
type family struct {
	name, label, help string
	kind              prometheus.ValueType
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

var families = []family{
	{"uptime_seconds", "", "Time since the server started.", gauge},
	{"connections", "state", "Connections: current and active ones, and how many more may come.", gauge},
	{"connections_total", "", "Connections that were accepted.", counter},
	{"connections_rejected_total", "", "Connections that were refused because there were too many.", counter},
	{"network_bytes_total", "direction", "Bytes of requests (in) and replies (out) before compression.", counter},
	{"network_physical_bytes_total", "direction", "Bytes on the wire.", counter},
	{"network_requests_total", "", "Requests.", counter},
	{"operations_total", "type", "Operations, as opcounters.", counter},
	{"latency_seconds_total", "class", "Time that reads, writes and other commands took.", counter},
	{"latency_operations_total", "class", "Operations that the time was taken of.", counter},
	{"asserts_total", "type", "Errors that were returned to clients (user) and others.", counter},
	{"documents_total", "action", "Documents that were returned, inserted, updated, deleted.", counter},
	{"scanned_total", "what", "Index keys and documents that were looked at.", counter},
	{"collection_scans_total", "", "Queries without an index.", counter},
	{"write_conflicts_total", "", "Writes that were tried again because another one was in the way.", counter},
	{"cursors", "state", "Open cursors.", gauge},
	{"cursors_timed_out_total", "", "Cursors that were closed because nobody used them.", counter},
	{"ttl_deleted_documents_total", "", "Documents that expired.", counter},
	{"active_operations", "", "Operations that run.", gauge},
	{"sessions", "", "Logical sessions.", gauge},
	{"storage_disk_bytes", "", "Bytes of the store on disk.", gauge},
	{"storage_read_only", "", "1 if the store takes no writes any more because of an error.", gauge},
	{"storage_cache_bytes", "", "Bytes in the block cache.", gauge},
	{"storage_cache_max_bytes", "", "Bytes that the block cache may have.", gauge},
	{"storage_cache_lookups_total", "result", "Looks into the block cache.", counter},
	{"storage_compactions_total", "", "Compactions.", counter},
	{"storage_compaction_debt_bytes", "", "Bytes that compactions still have to do.", gauge},
	{"storage_flushes_total", "", "Memtables that were flushed.", counter},
	{"storage_write_stalls_total", "", "Times that writes waited for the store.", counter},
	{"storage_open_snapshots", "", "Snapshots that readers hold.", gauge},
	{"storage_checkpoints_total", "", "Checkpoints.", counter},
	{"journal_bytes", "", "Bytes of the journal.", gauge},
	{"journal_syncs_total", "", "Syncs of the journal.", counter},
	{"oplog_bytes", "", "Bytes of the oplog.", gauge},
	{"oplog_max_bytes", "", "Bytes that the oplog may have.", gauge},
	{"oplog_entries", "", "Entries of the oplog.", gauge},
	{"oplog_first_timestamp_seconds", "", "Time of the oldest oplog entry.", gauge},
	{"oplog_last_timestamp_seconds", "", "Time of the newest oplog entry.", gauge},
}

var figures = []figure{
	{"uptimeMillis", "uptime_seconds", "", 1e-3},
	{"connections.current", "connections", "current", 1},
	{"connections.active", "connections", "active", 1},
	{"connections.available", "connections", "available", 1},
	{"connections.totalCreated", "connections_total", "", 1},
	{"connections.rejected", "connections_rejected_total", "", 1},
	{"network.bytesIn", "network_bytes_total", "in", 1},
	{"network.bytesOut", "network_bytes_total", "out", 1},
	{"network.physicalBytesIn", "network_physical_bytes_total", "in", 1},
	{"network.physicalBytesOut", "network_physical_bytes_total", "out", 1},
	{"network.numRequests", "network_requests_total", "", 1},
	{"opcounters.insert", "operations_total", "insert", 1},
	{"opcounters.query", "operations_total", "query", 1},
	{"opcounters.update", "operations_total", "update", 1},
	{"opcounters.delete", "operations_total", "delete", 1},
	{"opcounters.getmore", "operations_total", "getmore", 1},
	{"opcounters.command", "operations_total", "command", 1},
	{"opLatencies.reads.latency", "latency_seconds_total", "reads", 1e-6},
	{"opLatencies.writes.latency", "latency_seconds_total", "writes", 1e-6},
	{"opLatencies.commands.latency", "latency_seconds_total", "commands", 1e-6},
	{"opLatencies.reads.ops", "latency_operations_total", "reads", 1},
	{"opLatencies.writes.ops", "latency_operations_total", "writes", 1},
	{"opLatencies.commands.ops", "latency_operations_total", "commands", 1},
	{"asserts.regular", "asserts_total", "regular", 1},
	{"asserts.warning", "asserts_total", "warning", 1},
	{"asserts.msg", "asserts_total", "msg", 1},
	{"asserts.user", "asserts_total", "user", 1},
	{"metrics.document.returned", "documents_total", "returned", 1},
	{"metrics.document.inserted", "documents_total", "inserted", 1},
	{"metrics.document.updated", "documents_total", "updated", 1},
	{"metrics.document.deleted", "documents_total", "deleted", 1},
	{"metrics.queryExecutor.scanned", "scanned_total", "keys", 1},
	{"metrics.queryExecutor.scannedObjects", "scanned_total", "documents", 1},
	{"metrics.queryExecutor.collectionScans.total", "collection_scans_total", "", 1},
	{"metrics.operation.writeConflicts", "write_conflicts_total", "", 1},
	{"metrics.cursor.open.total", "cursors", "open", 1},
	{"metrics.cursor.open.pinned", "cursors", "pinned", 1},
	{"metrics.cursor.open.noTimeout", "cursors", "noTimeout", 1},
	{"metrics.cursor.timedOut", "cursors_timed_out_total", "", 1},
	{"metrics.ttl.deletedDocuments", "ttl_deleted_documents_total", "", 1},
	{"globalLock.activeClients.total", "active_operations", "", 1},
	{"logicalSessionRecordCache.activeSessionsCount", "sessions", "", 1},
	{"storageEngine.diskBytes", "storage_disk_bytes", "", 1},
	{"storageEngine.readOnly", "storage_read_only", "", 1},
	{"storageEngine.cache.bytes", "storage_cache_bytes", "", 1},
	{"storageEngine.cache.maxBytes", "storage_cache_max_bytes", "", 1},
	{"storageEngine.cache.hits", "storage_cache_lookups_total", "hit", 1},
	{"storageEngine.cache.misses", "storage_cache_lookups_total", "miss", 1},
	{"storageEngine.compactions", "storage_compactions_total", "", 1},
	{"storageEngine.compactionDebtBytes", "storage_compaction_debt_bytes", "", 1},
	{"storageEngine.flushes", "storage_flushes_total", "", 1},
	{"storageEngine.writeStalls", "storage_write_stalls_total", "", 1},
	{"storageEngine.openSnapshots", "storage_open_snapshots", "", 1},
	{"storageEngine.checkpoints", "storage_checkpoints_total", "", 1},
	{"journal.bytes", "journal_bytes", "", 1},
	{"journal.syncs", "journal_syncs_total", "", 1},
	{"oplog.bytes", "oplog_bytes", "", 1},
	{"oplog.maxBytes", "oplog_max_bytes", "", 1},
	{"oplog.count", "oplog_entries", "", 1},
	{"oplog.first", "oplog_first_timestamp_seconds", "", 1},
	{"oplog.last", "oplog_last_timestamp_seconds", "", 1},
}

// server shows a server's status. It is a prometheus.Collector.
type server struct {
	status   func() (bson.Raw, error)
	descs    map[string]*prometheus.Desc
	kinds    map[string]prometheus.ValueType
	info     *prometheus.Desc
	commands [2]*prometheus.Desc
}

// NewServer registers the figures of a server; status is its serverStatus reply, asked for once a
// scrape.
func NewServer(reg prometheus.Registerer, status func() (bson.Raw, error)) error {
	s := &server{status: status, descs: map[string]*prometheus.Desc{}, kinds: map[string]prometheus.ValueType{},
		info: prometheus.NewDesc("cairn_info", "1, with the versions.", []string{"version", "mongodb_version"}, nil),
		commands: [2]*prometheus.Desc{
			prometheus.NewDesc("cairn_commands_total", "Commands by name.", []string{"command"}, nil),
			prometheus.NewDesc("cairn_commands_failed_total", "Commands that failed, by name.", []string{"command"}, nil),
		}}
	for _, f := range families {
		var labels []string
		if f.label != "" {
			labels = []string{f.label}
		}
		s.descs[f.name] = prometheus.NewDesc("cairn_"+f.name, f.help, labels, nil)
		s.kinds[f.name] = f.kind
	}
	return reg.Register(s)
}

// Describe implements prometheus.Collector.
func (s *server) Describe(out chan<- *prometheus.Desc) {
	out <- s.info
	out <- s.commands[0]
	out <- s.commands[1]
	for _, d := range s.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *server) Collect(out chan<- prometheus.Metric) {
	reply, err := s.status()
	if err != nil {
		out <- prometheus.NewInvalidMetric(s.info, fmt.Errorf("serverStatus: %w", err))
		return
	}
	out <- prometheus.MustNewConstMetric(s.info, gauge, 1, strings.Clone(reply.Path("cairn.version").Str()), strings.Clone(reply.Get("version").Str()))
	for _, f := range figures {
		n, ok := number(reply.Path(f.path))
		if !ok {
			out <- prometheus.NewInvalidMetric(s.descs[f.name], fmt.Errorf("serverStatus has no number %s", f.path))
			continue
		}
		var labels []string
		if f.value != "" {
			labels = []string{f.value}
		}
		out <- prometheus.MustNewConstMetric(s.descs[f.name], s.kinds[f.name], n*f.scale, labels...)
	}
	for name, v := range reply.Path("metrics.commands").Doc().Elems() {
		if v.Type != bson.TypeDocument {
			continue // commands that do not exist have one sum
		}
		for i, field := range []string{"total", "failed"} {
			n, _ := number(v.Doc().Get(field))
			out <- prometheus.MustNewConstMetric(s.commands[i], counter, n, strings.Clone(name))
		}
	}
}

// number reads what counts as a number: timestamps as seconds, true as 1.
func number(v bson.Value) (float64, bool) {
	switch v.Type {
	case bson.TypeTimestamp:
		return float64(v.Timestamp().Seconds()), true
	case bson.TypeBool:
		if v.Bool() {
			return 1, true
		}
		return 0, true
	}
	return v.AsFloat64()
}
