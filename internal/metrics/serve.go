package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry is a registry that has the figures of the process and of Go's runtime.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Page serves /metrics until it is closed.
type Page struct {
	l    net.Listener
	srv  *http.Server
	done chan struct{}
}

// Serve listens on an address (HOST:PORT, port 0 is the system's choice) and shows what reg has.
// Nobody is asked for a password: the address must be one that only those reach who may read.
func Serve(address string, reg *prometheus.Registry, log *slog.Logger) (*Page, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorLog: errorLog{log}, ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: 4, Timeout: 20 * time.Second}))
	p := &Page{l: l, done: make(chan struct{}), srv: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}}
	go func() {
		defer close(p.done)
		if err := p.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "err", err)
		}
	}()
	return p, nil
}

// Addr is where it listens.
func (p *Page) Addr() string { return p.l.Addr().String() }

// Close ends it.
func (p *Page) Close() error {
	err := p.srv.Close()
	<-p.done
	return err
}

type errorLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (e errorLog) Println(v ...any) { e.log.Warn("metrics", "err", fmt.Sprint(v...)) }
