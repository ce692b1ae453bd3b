// Package cairntest gives a Go test a database of its own: a server in the test's
// process, in memory, closed by the test's cleanup.
//
//	func TestOrders(t *testing.T) {
//		uri := cairntest.Start(t)
//		client, err := mongo.Connect(options.Client().ApplyURI(uri))
//		…
//	}
package cairntest

import (
	"testing"

	"github.com/cairndb/cairn"
)

// An Option changes what Start starts.
type Option func(*cairn.Options)

// ReplSet makes the server a replica set of one member, as causally
// consistent sessions need.
func ReplSet(name string) Option { return func(o *cairn.Options) { o.ReplSet = name } }

// Dir keeps the store in a directory instead of memory.
func Dir(dir string) Option { return func(o *cairn.Options) { o.Dir, o.InMemory = dir, false } }

// Parameter sets a server parameter, such as "enableTestCommands=1".
func Parameter(nameValue string) Option {
	return func(o *cairn.Options) { o.Parameters = append(o.Parameters, nameValue) }
}

// Start runs a server until the test ends and returns its connection string. Tests
// that run in parallel each get their own.
func Start(t testing.TB, opts ...Option) string {
	t.Helper()
	return Open(t, opts...).URI()
}

// Open is Start for tests that need the server itself.
func Open(t testing.TB, opts ...Option) *cairn.DB {
	t.Helper()
	o := cairn.Options{InMemory: true, CacheBytes: 16 << 20, OplogBytes: 16 << 20}
	for _, f := range opts {
		f(&o)
	}
	db, err := cairn.Open(o)
	if err != nil {
		t.Fatalf("cairntest: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("cairntest: close: %v", err)
		}
	})
	return db
}
