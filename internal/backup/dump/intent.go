package dump

import (
	"encoding/hex"
	"sort"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/backup/tool"
)

// intent is one unit of work: a collection, the oplog, users, roles or the version.
type intent struct {
	db, coll string   // the name it is stored under
	live     string   // what the collection is called on the server, if that is another name
	options  bson.Raw // nil if there are none
	uuid     []byte   // 16 bytes, nil if the server told none
	kind     string   // as listCollections says: "collection", "view", "timeseries", "" on old servers
	buckets  bool     // the data come from system.buckets.<coll>
	size     int64    // expected documents, for the order and the progress

	hasData  bool // there is a data file; a view has none
	location string
	meta     []byte // the metadata file's content; nil: the collection was gone

	// What came of it.
	docs    int64
	done    bool
	dropped bool
	phantom bool // there is no collection to read, only entries that speak of one
}

func (i *intent) namespace() string { return i.db + "." + i.coll }

// dataColl is the name the data are stored under.
func (i *intent) dataColl() string {
	if i.buckets {
		return tool.BucketPrefix + i.coll
	}
	return i.coll
}

func (i *intent) dataNamespace() string { return i.db + "." + i.dataColl() }

// liveColl is the collection on the server that holds the data.
func (i *intent) liveColl() string {
	name := i.live
	if name == "" {
		name = i.coll
	}
	if i.buckets {
		return tool.BucketPrefix + name
	}
	return name
}

func (i *intent) isView() bool       { return i.kind == "view" }
func (i *intent) isTimeseries() bool { return i.kind == "timeseries" }
func (i *intent) uuidHex() string    { return hex.EncodeToString(i.uuid) }

// manager holds the intents. The special ones are dumped by their phase, the others are
// handed out one at a time.
type manager struct {
	normal []*intent // in the order found
	byName map[string]*intent

	oplog, users, roles, version *intent

	mu    sync.Mutex
	queue []*intent
}

func newManager() *manager { return &manager{byName: map[string]*intent{}} }

func (m *manager) put(i *intent) {
	switch {
	case i.db == "" && i.coll == "oplog":
		m.oplog = i
	case i.coll == "$admin.system.users" || i.db == "admin" && i.coll == "system.users":
		m.users = i
	case i.coll == "$admin.system.roles" || i.db == "admin" && i.coll == "system.roles":
		m.roles = i
	case i.coll == "$admin.system.version" || i.db == "admin" && i.coll == "system.version":
		m.version = i
	default:
		if m.byName[i.namespace()] == nil {
			m.byName[i.namespace()] = i
			m.normal = append(m.normal, i)
		}
	}
}

// all lists every intent.
func (m *manager) all() []*intent {
	l := append([]*intent(nil), m.normal...)
	for _, i := range []*intent{m.oplog, m.users, m.roles, m.version} {
		if i != nil {
			l = append(l, i)
		}
	}
	return l
}

// start fills the queue: views, then the longest task first, or as found.
func (m *manager) start(longestFirst bool) {
	m.queue = append([]*intent(nil), m.normal...)
	if longestFirst {
		sort.SliceStable(m.queue, func(a, b int) bool {
			x, y := m.queue[a], m.queue[b]
			if x.isView() != y.isView() {
				return x.isView()
			}
			return x.size > y.size
		})
	}
}

// pop hands out the next intent, nil at the end.
func (m *manager) pop() *intent {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 {
		return nil
	}
	i := m.queue[0]
	m.queue = m.queue[1:]
	return i
}
