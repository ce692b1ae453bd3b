package snapshot

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

func names(colls []Collection) string {
	var all []string
	for _, c := range colls {
		all = append(all, fmt.Sprintf("%s=%d", c.Namespace(), c.UUID[0]))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// Random creates, drops and renames of a few names, listed after any number of them: taken back
// over all of them, the list is the one before the first.
func TestRewindOverAnyListing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	for round := range 3000 {
		state := map[string]byte{} // name → identity
		next := byte(1)
		for range rnd.IntN(4) {
			state[fmt.Sprint("c", rnd.IntN(5))] = next
			next++
		}
		list := func() (all []Collection) {
			for n, id := range state {
				all = append(all, Collection{DB: "d", Name: n, UUID: bson.UUID{id}})
			}
			return all
		}
		before := list()
		listings := [][]Collection{before}
		var w Rewinder
		var log []string
		for i := range rnd.IntN(8) {
			from, to := fmt.Sprint("c", rnd.IntN(5)), fmt.Sprint("c", rnd.IntN(5))
			id, there := state[from]
			var o bson.Raw
			switch {
			case !there:
				o, id = bson.D("create", from), next
				state[from] = next
				next++
			case rnd.IntN(2) == 0:
				o = bson.D("drop", from)
				delete(state, from)
			case from != to:
				o = bson.D("renameCollection", "d."+from, "to", "d."+to)
				if victim, ok := state[to]; ok {
					o = bson.D("renameCollection", "d."+from, "to", "d."+to, "dropTarget", bson.UUID{victim})
				}
				delete(state, from)
				state[to] = id
			default:
				continue
			}
			log = append(log, o.String())
			e, err := entry.Parse(bson.D("ts", bson.NewTimestamp(uint32(i+1), 1), "op", "c", "ns", "d.$cmd", "ui", bson.UUID{id}, "o", o))
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Add(e); err != nil {
				t.Fatal(err)
			}
			listings = append(listings, list())
		}
		if w.Unknown != nil {
			t.Fatalf("%v", w.Unknown)
		}
		for k, l := range listings {
			if got := names(w.Rewind(l)); got != names(before) {
				t.Fatalf("round %d, listed after %d of\n%s\ngot  %s\nwant %s", round, k, strings.Join(log, "\n"), got, names(before))
			}
		}
	}
}

func TestMarshal(t *testing.T) {
	c := Collection{DB: "d", Name: "c.x", UUID: bson.UUID{1, 2}, Type: "collection", Options: bson.D("capped", true), Indexes: []bson.Raw{bson.D("name", "a_1")}}
	got, err := Unmarshal(c.Marshal(func(b *bson.Builder) { b.Int64("documents", 5) }))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(c) {
		t.Errorf("%+v, %v; want %+v", got, err, c)
	}
	if _, err := Unmarshal(bson.Empty); err == nil {
		t.Error("a collection without a name was read")
	}
}

func TestCopied(t *testing.T) {
	for ns, want := range map[string]bool{
		"a.b": true, "local.oplog.rs": false, "config.transactions": false, "config.settings": true, "a.system.views": true,
		"a.system.profile": false, "admin.system.users": true, "admin.system.version": false, "a.system.users": false, "a.system.js": true, "a.system.buckets.t": true,
	} {
		db, coll, _ := strings.Cut(ns, ".")
		if copied(db, coll) != want {
			t.Errorf("%s: copied is %v", ns, !want)
		}
	}
}
