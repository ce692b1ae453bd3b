package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/gauges"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/metrics"
	"github.com/cairndb/cairn/internal/node"
)

// serveMetrics is `cairn serve --metricsAddr`: the figures of serverStatus, and of the backup that
// runs in the server, on a page for Prometheus. It returns what ends it.
func serveMetrics(s *node.Settings, n *node.Node) (stop func() error, err error) {
	if s.MetricsAddr == "" {
		return func() error { return nil }, nil
	}
	reg := metrics.NewRegistry()
	status := func() (bson.Raw, error) { return n.Run(context.Background(), "admin", bson.D("serverStatus", 1)) }
	if err := metrics.NewServer(reg, status); err != nil {
		return nil, err
	}
	if b, ok := s.Backup.(*serverBackup); ok {
		if err := gauges.New(reg, b.runStatus); err != nil {
			return nil, err
		}
	}
	return servePage(s.MetricsAddr, reg, s.Log.With("component", "metrics"))
}

// runMetrics is `cairn backup run --metrics-addr`.
func runMetrics(address string, r *pitr.Runner) (stop func() error, err error) {
	if address == "" {
		return func() error { return nil }, nil
	}
	reg := metrics.NewRegistry()
	if err := gauges.New(reg, func() (pitr.RunStatus, bool) { return r.Status(), true }); err != nil {
		return nil, err
	}
	return servePage(address, reg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

func servePage(address string, reg *prometheus.Registry, log *slog.Logger) (stop func() error, err error) {
	p, err := metrics.Serve(address, reg, log)
	if err != nil {
		return nil, &exitError{exitFailure, err}
	}
	log.Info("serving metrics", "url", fmt.Sprintf("http://%s/metrics", p.Addr()))
	return p.Close, nil
}
