package metrics

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/bson"
)

// scrape reads the page.
func scrape(t *testing.T, p *Page, path string) (code int, text string) {
	t.Helper()
	res, err := http.Get("http://" + p.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(all)
}

// Every figure of the table is in a real server's status, and on the page with its value.
func TestServer(t *testing.T) {
	ctx := t.Context()
	client, err := mongo.Connect(options.Client().ApplyURI(cairntest.Start(t, cairntest.ReplSet("rs0"))))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(ctx)
	if _, err := client.Database("d").Collection("c").InsertMany(ctx, []any{dbson.D{}, dbson.D{}, dbson.D{}}); err != nil {
		t.Fatal(err)
	}
	if err := client.Database("d").RunCommand(ctx, dbson.D{{Key: "collStats", Value: 5}}).Err(); err == nil {
		t.Fatal("a wrong command was taken")
	}
	var status error
	reg := NewRegistry()
	err = NewServer(reg, func() (bson.Raw, error) {
		if status != nil {
			return nil, status
		}
		raw, err := client.Database("admin").RunCommand(ctx, dbson.D{{Key: "serverStatus", Value: 1}}).Raw()
		return bson.Raw(raw), err
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Serve("127.0.0.1:0", reg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	code, text := scrape(t, p, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	for _, want := range []string{
		`cairn_operations_total{type="insert"} 3`, `cairn_documents_total{action="inserted"} 3`, `cairn_connections{state="current"} `, `cairn_info{`,
		`cairn_commands_total{command="insert"} 1`, `cairn_commands_failed_total{command="collStats"} 1`, "cairn_storage_read_only 0", "cairn_oplog_last_timestamp_seconds 1.",
		"go_goroutines ", "process_cpu_seconds_total ", "# TYPE cairn_operations_total counter", "# HELP cairn_operations_total ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("%q is missing", want)
		}
	}
	used := map[string]bool{}
	for _, f := range figures {
		used[f.name] = true
	}
	for _, f := range families {
		if !used[f.name] || !strings.Contains(text, "\ncairn_"+f.name) {
			t.Errorf("%s has no figure", f.name)
		}
	}
	if code, _ := scrape(t, p, "/"); code != http.StatusNotFound {
		t.Errorf("another page: %d", code)
	}
	// A server that does not say how it is makes the scrape fail, instead of looking idle.
	status = errors.New("it is not there")
	if code, text := scrape(t, p, "/metrics"); code != http.StatusInternalServerError || !strings.Contains(text, "it is not there") {
		t.Errorf("%d %s", code, text)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get("http://" + p.Addr() + "/metrics"); err == nil {
		t.Error("a closed page answers")
	}
	if _, err := Serve("127.0.0.1:-1", reg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a wrong address was taken")
	}
}
