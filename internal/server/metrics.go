package server

import (
	"sync/atomic"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/wire"
)

// Metrics counts what serverStatus shows as connections and network.
type Metrics struct {
	comp     *wire.Compression
	maxConns int

	current, created, rejected, active atomic.Int64
	requests                           atomic.Int64
	bytesIn, bytesOut                  atomic.Int64 // as if nothing was compressed
	physicalIn, physicalOut            atomic.Int64
	streamHello, streamIsMaster        atomic.Int64
	streamOther                        atomic.Int64

	// AwaitingTopologyChanges is how many hellos wait; the hello command keeps it.
	AwaitingTopologyChanges atomic.Int64
}

func (m *Metrics) init(comp *wire.Compression, maxConns int) { m.comp, m.maxConns = comp, maxConns }

// received counts a request as it came over the wire.
func (m *Metrics) received(req *wire.Request) {
	m.requests.Add(1)
	m.bytesIn.Add(int64(req.Length))
	m.physicalIn.Add(int64(req.WireSize))
}

// streams returns the gauge of connections that stream replies of a command.
func (m *Metrics) streams(command string) *atomic.Int64 {
	switch command {
	case "hello":
		return &m.streamHello
	case "isMaster", "ismaster":
		return &m.streamIsMaster
	}
	return &m.streamOther
}

func (m *Metrics) sent(wireSize, plainSize int) {
	m.bytesOut.Add(int64(plainSize))
	m.physicalOut.Add(int64(wireSize))
}

// Current returns the number of open connections.
func (m *Metrics) Current() int { return int(m.current.Load()) }

// Requests returns the number of requests received.
func (m *Metrics) Requests() int64 { return m.requests.Load() }

// AppendConnections appends serverStatus.connections' fields.
func (m *Metrics) AppendConnections(b *bson.Builder) {
	current := m.current.Load()
	b.Int32("current", int32(current))
	b.Int32("available", int32(max(0, int64(m.maxConns)-current)))
	b.Int32("totalCreated", int32(m.created.Load()))
	b.Int32("rejected", int32(m.rejected.Load()))
	b.Int32("active", int32(m.active.Load()))
	b.Int32("threaded", int32(current))
	b.Int32("exhaustIsMaster", int32(m.streamIsMaster.Load()))
	b.Int32("exhaustHello", int32(m.streamHello.Load()))
	b.Int32("awaitingTopologyChanges", int32(m.AwaitingTopologyChanges.Load()))
}

// AppendNetwork appends serverStatus.network's fields.
func (m *Metrics) AppendNetwork(b *bson.Builder) {
	b.Int64("bytesIn", m.bytesIn.Load())
	b.Int64("bytesOut", m.bytesOut.Load())
	b.Int64("physicalBytesIn", m.physicalIn.Load())
	b.Int64("physicalBytesOut", m.physicalOut.Load())
	b.Int64("numSlowDNSOperations", 0)
	b.Int64("numSlowSSLOperations", 0)
	b.Int64("numRequests", m.requests.Load())
	b.Doc("tcpFastOpen").Bool("serverSupported", false).Bool("clientSupported", false).Int64("accepted", 0).End()
	b.Doc("compression")
	for _, id := range []wire.CompressorID{wire.CompressorSnappy, wire.CompressorZstd, wire.CompressorZlib} {
		cin, cout, din, dout := m.comp.Stats[id].Load()
		b.Doc(id.String())
		b.Doc("compressor").Int64("bytesIn", cin).Int64("bytesOut", cout).End()
		b.Doc("decompressor").Int64("bytesIn", din).Int64("bytesOut", dout).End()
		b.End()
	}
	b.End()
}
