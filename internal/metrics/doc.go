// Package metrics shows figures in Prometheus's form over HTTP.
//
// It owns the page /metrics and the table that says which figures of serverStatus are on it under
// which names. It counts nothing itself: a server's figures are those that serverStatus shows at that
// moment, so that the two never differ. It must not know where the status comes from, nor what a
// backup is: whoever has figures of his own registers them.
package metrics
