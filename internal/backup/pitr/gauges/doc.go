// Package gauges shows how a continuous backup stands as Prometheus's figures. It reads the RunStatus
// that serverStatus and the status lines read, counts nothing itself, and must not know who asks.
package gauges
