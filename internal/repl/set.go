package repl

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Store keeps what must outlive a restart; node backs it with collections of `local`.
type Store struct {
	// LoadConfig returns local.system.replset's document, nil if there is none.
	LoadConfig func() (bson.Raw, error)
	// SaveConfig replaces it and returns once it is durable.
	SaveConfig func(ctx context.Context, config bson.Raw) error
	// Initiated writes the set's first log entry, {msg: "initiating set"}.
	Initiated func(ctx context.Context) error
	// ConfigChanged writes the log entry of a reconfiguration.
	ConfigChanged func(ctx context.Context, config bson.Raw) error
}

// Set is this node's view of its replica set; on a standalone the name is "".
type Set struct {
	name  string
	me    string
	term  int64
	store Store

	processID bson.ObjectID
	mu        struct {
		sync.Mutex
		config   bson.Raw
		counter  int64
		changed  chan struct{}
		election bson.Timestamp
	}
}

// Open returns the set called name, with the configuration that is stored. me is
// host:port by which members and drivers reach this node; term is the node's present term.
func Open(name, me string, term int64, now time.Time, store Store) (*Set, error) {
	s := &Set{name: name, me: me, term: term, store: store, processID: newObjectID(now)}
	s.mu.changed = make(chan struct{})
	s.mu.election = bson.NewTimestamp(uint32(now.Unix()), 1)
	if name == "" {
		return s, nil
	}
	cfg, err := store.LoadConfig()
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		if id := cfg.Get("_id").Str(); id != name {
			return nil, mongoerr.New(mongoerr.InvalidReplicaSetConfig, "the stored replica set configuration is of the set %q, but --replSet says %q: start with --replSet %s", id, name, id)
		}
		s.mu.config, s.mu.counter = withTerm(cfg, term), 6
		s.me = memberHost(cfg)
	}
	return s, nil
}

// newObjectID returns a fresh ObjectId of the given time.
func newObjectID(now time.Time) (id bson.ObjectID) {
	binary.BigEndian.PutUint32(id[:], uint32(now.Unix()))
	if _, err := rand.Read(id[4:]); err != nil {
		panic(err) // crypto/rand never fails
	}
	return id
}

func memberHost(cfg bson.Raw) string {
	_, m := cfg.Get("members").Doc().First()
	return string([]byte(m.Doc().Get("host").Str()))
}

// SetName returns the set's name, "" on a standalone.
func (s *Set) SetName() string { return s.name }

// Initiated reports whether the set has a configuration.
func (s *Set) Initiated() bool { return s.Config() != nil }

// Config returns the configuration, nil before initiation.
func (s *Set) Config() bson.Raw {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.config
}

// Members returns how many members bear data.
func (s *Set) Members() int { return 1 }

// Me returns this member's host:port.
func (s *Set) Me() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.me
}

// Term returns the term in which this node is primary.
func (s *Set) Term() int64 { return s.term }

// ElectionID returns the id that drivers compare to find the newest primary.
func (s *Set) ElectionID() (id bson.ObjectID) {
	binary.BigEndian.PutUint32(id[:], 0x7FFFFFFF)
	binary.BigEndian.PutUint64(id[4:], uint64(s.term))
	return id
}

// ElectionTime returns when this node became primary.
func (s *Set) ElectionTime() bson.Timestamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.election
}

// Topology returns the present topology version and a channel that closes at its
// next change.
func (s *Set) Topology() (bson.ObjectID, int64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.processID, s.mu.counter, s.mu.changed
}

// WriteMode reports whether the configuration defines a write concern mode.
func (s *Set) WriteMode(name string) bool {
	return s.Config().Path("settings.getLastErrorModes."+name).Type == bson.TypeDocument
}

// install makes a stored configuration the present one.
func (s *Set) install(cfg bson.Raw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.config, s.me = cfg, memberHost(cfg)
	s.mu.counter++
	close(s.mu.changed)
	s.mu.changed = make(chan struct{})
}

// Initiate stores the first configuration; nil asks for the default one.
func (s *Set) Initiate(ctx context.Context, config bson.Raw) error {
	if s.Initiated() {
		return mongoerr.New(mongoerr.AlreadyInitialized, "already initialized")
	}
	if config == nil {
		config = bson.D("_id", s.name, "version", 1, "members", bson.A(bson.D("_id", 0, "host", s.me)))
	}
	cfg, err := s.normalise(config, newObjectID(time.Now()), 1)
	if err != nil {
		return err
	}
	if err := s.store.SaveConfig(ctx, cfg); err != nil {
		return err
	}
	if err := s.store.Initiated(ctx); err != nil {
		return err
	}
	s.install(cfg)
	return nil
}

// Reconfig replaces the configuration with a newer version.
func (s *Set) Reconfig(ctx context.Context, config bson.Raw, force bool) error {
	old := s.Config()
	oldVersion, _ := old.Get("version").AsInt64()
	version, _ := config.Get("version").AsInt64()
	if force {
		version = max(version, oldVersion+1)
	}
	if version <= oldVersion {
		return mongoerr.New(103, "New replica set configuration version must be greater than old, but %d is not greater than %d for replica set %s", version, oldVersion, s.name)
	}
	if id := config.Path("settings.replicaSetId"); id.Type == bson.TypeObjectID && id.ObjectID() != old.Path("settings.replicaSetId").ObjectID() {
		return mongoerr.New(103, "New and old configurations differ in replica set ID; old was %s, and new is %s", old.Path("settings.replicaSetId").ObjectID(), id.ObjectID())
	}
	cfg, err := s.normalise(config, old.Path("settings.replicaSetId").ObjectID(), version)
	if err != nil {
		return err
	}
	if err := s.store.SaveConfig(ctx, cfg); err != nil {
		return err
	}
	if err := s.store.ConfigChanged(ctx, cfg); err != nil {
		return err
	}
	s.install(cfg)
	return nil
}

// MoveTo gives this member another address in the stored configuration: an embedded
// server gets another port at each start. Before initiation it does nothing.
func (s *Set) MoveTo(ctx context.Context, host string) error {
	old := s.Config()
	if old == nil || memberHost(old) == host {
		return nil
	}
	version, _ := old.Get("version").AsInt64()
	b := bson.NewBuilder(nil)
	for k, v := range old.Elems() {
		switch k {
		case "version":
			b.IntOrLong(k, version+1)
		case "members":
			b.Array(k)
			for m := range v.Doc().Values() {
				b.Doc("")
				for mk, mv := range m.Doc().Elems() {
					if mk == "host" {
						mv = bson.V(host)
					}
					b.Append(mk, mv)
				}
				b.End()
			}
			b.End()
		default:
			b.Append(k, v)
		}
	}
	cfg := b.Finish()
	if err := s.store.SaveConfig(ctx, cfg); err != nil {
		return err
	}
	s.install(cfg)
	return nil
}

func withTerm(cfg bson.Raw, term int64) bson.Raw {
	b := bson.NewBuilder(nil)
	for k, v := range cfg.Elems() {
		if k == "term" {
			b.IntOrLong("term", term)
		} else {
			b.Append(k, v)
		}
	}
	return b.Finish()
}
