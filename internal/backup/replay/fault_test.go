package replay

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairndb/cairn"
	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// TestServerRestarts restarts the target in the middle: once so soon that the replay goes
// on by itself, once for so long that it fails and is taken up where Applied was last.
func TestServerRestarts(t *testing.T) {
	log, _ := mixedEntries(2000)
	want := ""
	for _, name := range []string{"undisturbed", "soon", "late"} {
		t.Run(name, func(t *testing.T) {
			o := cairn.Options{Dir: t.TempDir(), CacheBytes: 16 << 20, OplogBytes: 64 << 20}
			db, err := cairn.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			o.Port = db.Port()
			t.Cleanup(func() { // behind the clients' own
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
			var done atomic.Pointer[entry.OpTime]
			applied := make(chan struct{}, len(log))
			opts := func(retry time.Duration) Options {
				return Options{Client: connect(t, db.URI()+"&serverSelectionTimeoutMS=2000"), BatchBytes: 64 << 10, RetryFor: retry, Applied: func(at entry.OpTime) {
					done.Store(&at)
					applied <- struct{}{}
				}}
			}
			restart := func(down func()) {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
				down()
				if db, err = cairn.Open(o); err != nil {
					t.Error(err)
				}
			}
			result := make(chan error, 1)
			first := opts(map[string]time.Duration{"late": -1}[name])
			go func() { _, err := tryReplayIn(first, log); result <- err }()
			switch name {
			case "soon":
				<-applied
				<-applied
				restart(func() {})
				if err := <-result; err != nil {
					t.Fatal(err)
				}
			case "late":
				<-applied
				<-applied
				restart(func() {
					if err := <-result; err == nil {
						t.Error("the replay ended without its server")
					}
				})
				at := done.Load()
				if at == nil {
					t.Fatal("nothing was told to be applied")
				}
				var rest []bson.Raw
				for _, e := range log {
					if optime(t, e).TS > at.TS {
						rest = append(rest, e)
					}
				}
				if len(rest) == 0 || len(rest) == len(log) {
					t.Fatalf("the restart was not in the middle: %d of %d left", len(rest), len(log))
				}
				o := opts(0)
				o.Resume = true
				replayAll(t, o, rest)
			default:
				if err := <-result; err != nil {
					t.Fatal(err)
				}
			}
			got := state(t, connect(t, db.URI()), "mixed")
			if want == "" {
				want = got
			}
			if got != want {
				t.Error(differ(got, want))
			}
		})
	}
}
