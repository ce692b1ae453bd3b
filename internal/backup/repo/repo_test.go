package repo

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"filippo.io/age"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func TestRoundTrip(t *testing.T) {
	for name, change := range map[string]func(*InitOptions){"plain": func(*InitOptions) {}, "encrypted": encrypted} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t, change)
			streams := map[string][]byte{
				"empty": {}, "one": {7}, "inline": noise(1, 4000), "one chunk": noise(2, 20000), "many": noise(3, 3<<20),
				"zeros": make([]byte, 1<<20), "edge": noise(4, 64<<10), "same as edge": noise(4, 64<<10),
				"log": append(noise(5, 700<<10), make([]byte, 900<<10)...), "log of nothing": {}, "log inline": noise(6, 300), "log piece": noise(7, logChunk),
			}
			m := backup(t, r, streams)
			wantStreams(t, r, m, streams)
			other := reopen(t, r)
			list, err := other.Manifests(context.Background())
			check(t, err)
			if len(list) != 1 || list[0].ID != m.ID || list[0].Written != m.Written {
				t.Fatalf("manifests: %+v", list)
			}
			wantStreams(t, other, list[0], streams)

			again := backup(t, other, streams)
			if again.Written.NewChunks != 0 || again.Written.Packs != 0 || again.Written.Stored != 0 {
				t.Fatalf("a second backup of the same data stored %+v", again.Written)
			}
			wantStreams(t, reopen(t, r), again, streams)
		})
	}
}

func TestOpenAt(t *testing.T) {
	r := newRepo(t)
	data := noise(9, 9<<20)
	m := backup(t, r, map[string][]byte{"s": data})
	for _, off := range []int64{0, 1, 8191, 4 << 20, 4<<20 + 1, 9<<20 - 1, 9 << 20} {
		rd, err := r.OpenAt(context.Background(), m.Streams[0], off)
		check(t, err)
		got := must(readAll(rd))(t)
		if string(got) != string(data[off:]) {
			t.Fatalf("from %d: %d bytes, want %d", off, len(got), len(data)-int(off))
		}
	}
	if _, err := r.OpenAt(context.Background(), m.Streams[0], 9<<20+1); err == nil {
		t.Fatal("an offset behind the end was accepted")
	}
}

func TestKeys(t *testing.T) {
	ctx := context.Background()
	alice, bob := must(age.GenerateX25519Identity())(t), must(age.GenerateX25519Identity())(t)
	r := newRepo(t, func(o *InitOptions) { o.Recipients = []age.Recipient{alice.Recipient()} })
	m := backup(t, r, map[string][]byte{"s": noise(1, 100000)})
	with := func(o Options) error {
		o.cost, o.Now = 1, r.opts.Now
		n, err := Open(ctx, r.url, OpenOptions{o})
		if err != nil {
			return err
		}
		wantStreams(t, n, m, map[string][]byte{"s": noise(1, 100000)})
		return n.Close()
	}
	check(t, with(Options{Identities: []age.Identity{bob, alice}}))
	for want, o := range map[error]Options{
		ErrKeyNeeded: {}, ErrWrongKey: {Identities: []age.Identity{bob}},
	} {
		if err := with(o); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	info, err := r.AddRecipient(ctx, bob.Recipient(), "bob")
	check(t, err)
	_, err = r.AddPassphrase(ctx, "secret", "")
	check(t, err)
	check(t, with(Options{Identities: []age.Identity{bob}}))
	check(t, with(Options{Passphrase: "secret"}))
	if err := with(Options{Passphrase: "guess"}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	all := must(r.Keys(ctx))(t)
	if len(all) != 3 {
		t.Fatalf("keys: %+v", all)
	}
	check(t, r.RemoveKey(ctx, info.ID))
	if err := with(Options{Identities: []age.Identity{bob}}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("a removed key: %v", err)
	}
	for _, k := range all {
		if k.ID != info.ID && k.Type == "recipient" {
			check(t, r.RemoveKey(ctx, k.ID))
		}
	}
	left := must(r.Keys(ctx))(t)
	if len(left) != 1 || r.RemoveKey(ctx, left[0].ID) == nil {
		t.Errorf("the last key was removed: %+v", left)
	}
	if err := r.RemoveKey(ctx, "no"); err == nil {
		t.Error("a key that is not there was removed")
	}
}

func TestInitRefuses(t *testing.T) {
	ctx := context.Background()
	r := newRepo(t)
	if _, err := Init(ctx, r.url, InitOptions{Options: fast(), PackSize: 256 << 10}); !errors.Is(err, ErrExists) {
		t.Errorf("a second init: %v", err)
	}
	if _, err := Open(ctx, "mem://"+randomHex(4), OpenOptions{}); !errors.Is(err, ErrNoRepository) {
		t.Errorf("an empty store: %v", err)
	}
	if _, err := Open(ctx, r.url, OpenOptions{Options{Passphrase: "x"}}); !errors.Is(err, ErrNotEncrypted) {
		t.Errorf("a key for a plain repository: %v", err)
	}
	for _, o := range []InitOptions{{AverageChunk: 3000}, {AverageChunk: 1 << 20}, {PackSize: 1 << 20}, {PackSize: 1 << 30}} {
		if _, err := Init(ctx, "mem://"+randomHex(4), o); err == nil {
			t.Errorf("accepted: %+v", o)
		}
	}
	for _, u := range []string{"file://host/x", "file:///tmp/x?y=1", "nosuch://x", "s3://b?nosuch=1", "http://[::1"} {
		if _, err := Init(ctx, u, InitOptions{}); err == nil {
			t.Errorf("accepted: %s", u)
		}
	}
}

func TestRecords(t *testing.T) {
	ctx := context.Background()
	for name, change := range map[string]func(*InitOptions){"plain": func(*InitOptions) {}, "encrypted": encrypted} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t, change)
			type gap struct{ From, To int }
			check(t, r.PutRecord(ctx, "gap", "b", gap{1, 2}))
			check(t, r.PutRecord(ctx, "gap", "a", gap{3, 4}))
			check(t, r.PutRecord(ctx, "drill", "a", gap{5, 6}))
			check(t, r.PutRecord(ctx, "gap", "b", gap{7, 8}))
			list := must(reopen(t, r).Records(ctx, "gap"))(t)
			if len(list) != 2 || list[0].ID != "a" || string(list[1].Data) != `{"From":7,"To":8}` {
				t.Fatalf("records: %+v", list)
			}
			var g gap
			if found := must(r.Record(ctx, "drill", "a", &g))(t); !found || g.From != 5 {
				t.Fatalf("record: %v %+v", found, g)
			}
			check(t, r.DeleteRecord(ctx, "drill", "a"))
			check(t, r.DeleteRecord(ctx, "drill", "a"))
			if found := must(r.Record(ctx, "drill", "a", &g))(t); found {
				t.Fatal("a deleted record is there")
			}
			if r.PutRecord(ctx, "../x", "a", 1) == nil || r.PutRecord(ctx, "gap", "", 1) == nil {
				t.Fatal("a bad name was accepted")
			}
			for _, o := range must(r.store.list(ctx, kindRecord.prefix()))(t) {
				if plain := o.name == "records/gap/a" || o.name == "records/gap/b"; plain == r.keys.encrypted() {
					t.Errorf("object %s", o.name)
				}
			}
		})
	}
}
