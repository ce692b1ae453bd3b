package repl

import (
	"context"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// memory keeps the configuration as a collection of local would.
func memory() (Store, *bson.Raw) {
	var stored bson.Raw
	ok := func(context.Context) error { return nil }
	return Store{
		LoadConfig:    func() (bson.Raw, error) { return stored, nil },
		SaveConfig:    func(_ context.Context, c bson.Raw) error { stored = c; return nil },
		Initiated:     ok,
		ConfigChanged: func(ctx context.Context, _ bson.Raw) error { return ok(ctx) },
	}, &stored
}

func TestInitiateAndReopen(t *testing.T) {
	store, _ := memory()
	ctx, now := context.Background(), time.Unix(100, 0)
	s, err := Open("rs0", "localhost:27017", 1, now, store)
	if err != nil {
		t.Fatal(err)
	}
	_, before, changed := s.Topology()
	if s.Initiated() {
		t.Fatal("initiated by itself")
	}
	if err := s.Initiate(ctx, nil); err != nil {
		t.Fatal(err)
	}
	<-changed
	if _, after, _ := s.Topology(); after <= before {
		t.Fatalf("topology version %d after %d", after, before)
	}
	if err := s.Initiate(ctx, nil); !mongoerr.Is(err, mongoerr.AlreadyInitialized) {
		t.Fatalf("second initiate: %v", err)
	}
	again, err := Open("rs0", "localhost:27017", 2, now, store)
	if err != nil {
		t.Fatal(err)
	}
	if term, _ := again.Config().Get("term").AsInt64(); !again.Initiated() || term != 2 {
		t.Fatalf("reopened: %v term %d", again.Initiated(), term)
	}
	if _, err := Open("other", "localhost:27017", 2, now, store); !mongoerr.Is(err, mongoerr.InvalidReplicaSetConfig) {
		t.Fatalf("other name: %v", err)
	}
}

func TestBadConfigs(t *testing.T) {
	member := bson.D("_id", 0, "host", "localhost:27017")
	for _, c := range []struct {
		name string
		cfg  bson.Raw
		code mongoerr.Code
	}{
		{"wrong name", bson.D("_id", "x", "version", 1, "members", bson.A(member)), mongoerr.InvalidReplicaSetConfig},
		{"no member", bson.D("_id", "rs0", "version", 1, "members", bson.A()), mongoerr.InvalidReplicaSetConfig},
		{"two members", bson.D("_id", "rs0", "version", 1, "members", bson.A(member, member)), mongoerr.InvalidReplicaSetConfig},
		{"unknown field", bson.D("_id", "rs0", "version", 1, "members", bson.A(member), "x", 1), mongoerr.UnknownField},
		{"unknown setting", bson.D("_id", "rs0", "members", bson.A(member), "settings", bson.D("x", 1)), mongoerr.UnknownField},
		{"arbiter", bson.D("_id", "rs0", "members", bson.A(bson.D("_id", 0, "host", "localhost:27017", "arbiterOnly", true))), mongoerr.InvalidReplicaSetConfig},
		{"somebody else", bson.D("_id", "rs0", "members", bson.A(bson.D("_id", 0, "host", "localhost:1"))), mongoerr.NodeNotFound},
	} {
		store, stored := memory()
		s, err := Open("rs0", "localhost:27017", 1, time.Unix(1, 0), store)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Initiate(context.Background(), c.cfg); !mongoerr.Is(err, c.code) {
			t.Errorf("%s: %v, want %v", c.name, err, c.code)
		}
		if *stored != nil || s.Initiated() {
			t.Errorf("%s: stored in spite of the error", c.name)
		}
	}
}

func TestReconfigNeedsNewerVersion(t *testing.T) {
	store, _ := memory()
	s, _ := Open("rs0", "localhost:27017", 1, time.Unix(1, 0), store)
	if err := s.Initiate(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	same := s.Config()
	if err := s.Reconfig(context.Background(), same, false); !mongoerr.Is(err, 103) {
		t.Fatalf("same version: %v", err)
	}
	if err := s.Reconfig(context.Background(), same, true); err != nil {
		t.Fatalf("forced: %v", err)
	}
	if v, _ := s.Config().Get("version").AsInt64(); v != 2 {
		t.Fatalf("version %d", v)
	}
}
