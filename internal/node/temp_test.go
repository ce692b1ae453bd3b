package node

import (
	"context"
	"log/slog"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
)

func TestTemporaryCollectionsDoNotOutliveTheServer(t *testing.T) {
	cfg := Config{DBPath: t.TempDir(), Embedded: true, NoTCP: true, NoUnixSocket: true, Log: slog.New(slog.DiscardHandler)}
	n, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string]bson.Raw{"tmp.agg_out.1": bson.D("temp", true), "kept": bson.Empty} {
		if _, err := n.catalog.Create(context.Background(), catalog.Namespace{DB: "test", Coll: name}, options); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err = Start(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	left := n.catalog.Pin().Collections("test")
	if len(left) != 1 || left[0].NS.Coll != "kept" {
		t.Errorf("after a restart there are %d collections", len(left))
	}
}
