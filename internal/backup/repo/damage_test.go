package repo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// everyKind makes a repository that has an object of every kind.
func everyKind(t testing.TB, change ...func(*InitOptions)) (*Repo, *Manifest, map[string][]byte) {
	ctx := context.Background()
	r := newRepo(t, change...)
	streams := map[string][]byte{"s": noise(1, 900<<10), "t": noise(2, 30<<10), "log": append(noise(3, 270<<10), make([]byte, 100<<10)...)}
	m := backup(t, r, streams)
	check(t, r.PutRecord(ctx, "drill", "d1", map[string]int{"a": 1}))
	name := kindTrash.prefix() + randomHex(16)
	data := must(r.sealJSON(kindTrash, name, &trashList{Packs: []ID{{1}}}))(t)
	check(t, r.store.put(ctx, name, data))
	return r, m, streams
}

// kindOfName gives what a CorruptError calls the object.
func kindOfName(name string) string {
	if name == markerName {
		return "marker"
	}
	for _, k := range kinds {
		if k.prefix != "" && strings.HasPrefix(name, k.prefix) {
			return k.name
		}
	}
	return ""
}

// A bit flipped anywhere in an object of any kind, an object cut short at any length, or one that
// is another's copy, is found and named by verify; reading it never gives wrong bytes.
func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, enc := range []bool{false, true} {
		r, m, streams := everyKind(t, func(o *InitOptions) {
			if enc {
				encrypted(o)
			}
		})
		lk := must(r.Lock(ctx, Shared))(t)
		all := must(contents(r))(t)
		kindsSeen := map[string]int{}
		for _, name := range sortedKeys(all) {
			good := all[name]
			kind := kindOfName(name)
			if kind == "key" && !enc {
				t.Fatal("a plain repository has keys")
			}
			kindsSeen[kind]++
			bad := map[string][]byte{"empty": {}, "cut by one byte": good[:len(good)-1], "cut in half": good[:len(good)/2], "longer": append(bytes.Clone(good), 0)}
			step := max(1, len(good)*thin/14)
			for at := 0; at < len(good); at += step {
				flipped := bytes.Clone(good)
				flipped[at] ^= 1 << (at % 8)
				bad["bit flipped at "+string(rune('A'+at%26))+randomHex(2)] = flipped
			}
			for what, data := range bad {
				check(t, r.store.b.put(ctx, name, data, false))
				found := false
				_, err := reopenDamaged(t, r).Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) {
					if f.Object == name || (f.Kind == Damaged && strings.HasSuffix(name, f.Object)) {
						found = true
						if f.Kind != Damaged && f.Kind != NewerVersion && f.Kind != Mismatch {
							t.Errorf("%s, %s: finding %s", name, what, f)
						}
						if f.Type != kind && f.Kind != NewerVersion {
							t.Errorf("%s, %s: it is called a %s", name, what, f.Type)
						}
						if kind == "pack" && !slices.Contains(f.Backups, m.ID) {
							t.Errorf("%s, %s: it is not said that %s needs it", name, what, m.ID)
						}
					}
				})
				check(t, err)
				if !found {
					t.Errorf("encrypted %v: %s (%s), %s: verify found nothing", enc, name, kind, what)
				}
				if kind == "pack" {
					readDamaged(t, reopenDamaged(t, r), m, streams, name+" "+what)
				}
			}
			check(t, r.store.b.put(ctx, name, good, false))
		}
		want := []string{"index", "lock", "manifest", "marker", "pack", "record", "trash"}
		if enc {
			want = append(want, "key")
		}
		for _, k := range want {
			if kindsSeen[k] == 0 {
				t.Errorf("no %s was damaged", k)
			}
		}
		check(t, lk.Release(ctx))
	}
}

// reopenDamaged shares the keys of a repository but not what it has read, so that a damaged
// marker or key does not keep verify from running.
func reopenDamaged(t testing.TB, r *Repo) *Repo {
	n := must(connect(context.Background(), r.url, r.opts, false))(t)
	check(t, n.use(r.marker, r.keys.master))
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// readDamaged restores: each stream comes back right, or with an error that is a *CorruptError.
func readDamaged(t *testing.T, r *Repo, m *Manifest, streams map[string][]byte, what string) {
	for _, ref := range m.Streams {
		got, err := readBack(r, ref)
		var c *CorruptError
		if err != nil && !errors.As(err, &c) {
			t.Errorf("%s: reading: %v", what, err)
		}
		if !bytes.HasPrefix(streams[ref.Name], got) || (err == nil && len(got) != len(streams[ref.Name])) {
			t.Errorf("%s: wrong bytes were delivered", what)
		}
	}
}

// readAllBack reads the streams of a backup up to the first error.
func readAllBack(r *Repo, m *Manifest) error {
	for _, ref := range m.Streams {
		if _, err := readBack(r, ref); err != nil {
			return err
		}
	}
	return nil
}

// Damage is met where the object is used, too, not only by verify.
func TestDamageIsMetInUse(t *testing.T) {
	ctx := context.Background()
	r, m, _ := everyKind(t, encrypted)
	all := must(contents(r))(t)
	use := map[string]func(n *Repo) error{
		"index":    func(n *Repo) error { _, err := readBack(n, m.Streams[0]); return err },
		"manifest": func(n *Repo) error { _, err := n.Manifests(ctx); return err },
		"record":   func(n *Repo) error { _, err := n.Records(ctx, "drill"); return err },
		"trash":    func(n *Repo) error { _, err := readBack(n, m.Streams[0]); return err },
		"pack":     func(n *Repo) error { return readAllBack(n, m) },
		"marker":   func(n *Repo) error { _, err := Open(ctx, n.url, OpenOptions{n.opts}); return err },
		"key":      func(n *Repo) error { _, err := Open(ctx, n.url, OpenOptions{n.opts}); return err },
	}
	done := map[string]bool{}
	for _, name := range sortedKeys(all) {
		kind := kindOfName(name)
		if use[kind] == nil || done[kind] {
			continue
		}
		done[kind] = true
		bad := bytes.Clone(all[name])
		bad[len(bad)/2] ^= 4
		check(t, r.store.b.put(ctx, name, bad, false))
		err := use[kind](reopenDamaged(t, r))
		var c *CorruptError
		if !errors.As(err, &c) || (c.Object != name && c.Kind != "chunk") {
			t.Errorf("%s: %v", name, err)
		}
		check(t, r.store.b.put(ctx, name, all[name], false))
	}
	if len(done) != len(use) {
		t.Errorf("only %v were damaged", sortedKeys(done))
	}
}

// An object in another one's place is refused, though its own digest is right.
func TestSwappedObjects(t *testing.T) {
	ctx := context.Background()
	for _, change := range []func(*InitOptions){func(*InitOptions) {}, encrypted} {
		r := newRepo(t, change)
		a, b := backup(t, r, map[string][]byte{"s": {1}}), backup(t, r, map[string][]byte{"s": {2}})
		all := must(contents(r))(t)
		check(t, r.store.put(ctx, manifestName(a.ID), all[manifestName(b.ID)]))
		var c *CorruptError
		if _, err := reopen(t, r).Manifest(ctx, a.ID); !errors.As(err, &c) {
			t.Errorf("a manifest in another's place: %v", err)
		}
		// The others are still listed, and the damage is told.
		list, err := reopen(t, r).Manifests(ctx)
		if len(list) != 1 || list[0].ID != b.ID || !errors.As(err, &c) {
			t.Errorf("%d manifests, %v", len(list), err)
		}
		check(t, r.PutRecord(ctx, "gap", "a", 1))
		check(t, r.PutRecord(ctx, "gap", "b", 2))
		data := must(r.store.get(ctx, r.recordName("gap", "a")))(t)
		check(t, r.store.put(ctx, r.recordName("gap", "b"), data))
		if _, err := r.Records(ctx, "gap"); !errors.As(err, &c) {
			t.Errorf("a record in another's place: %v", err)
		}
	}
}

func TestNewerVersionIsRefusedByName(t *testing.T) {
	ctx := context.Background()
	r, m, _ := everyKind(t)
	var v *VersionError
	for name, data := range must(contents(r))(t) {
		newer := bytes.Clone(data)
		if name == markerName {
			newer = bytes.Replace(newer, []byte(`"version":2`), []byte(`"version":3,"x":1`), 1)
		} else {
			newer[6] = 3
		}
		check(t, r.store.b.put(ctx, name, newer, false))
		var err error
		switch kindOfName(name) {
		case "marker":
			_, err = Open(ctx, r.url, OpenOptions{r.opts})
		case "manifest":
			_, err = reopenDamaged(t, r).Manifest(ctx, m.ID)
		case "record":
			_, err = reopenDamaged(t, r).Records(ctx, "drill")
		case "trash":
			_, err = reopenDamaged(t, r).loadIndex(ctx)
		default: // packs and indexes have their digest as their name: a newer one would have another
			check(t, r.store.b.put(ctx, name, data, false))
			continue
		}
		if !errors.As(err, &v) || v.Version != 3 || v.Known >= 3 || v.Object != name {
			t.Errorf("%s: %v", name, err)
		}
		check(t, r.store.b.put(ctx, name, data, false))
	}
}

// A lost pack is found, named with the backups that need it, and the next backup stores its
// chunks again, after which everything is whole.
func TestLostPackIsHealedByTheNextBackup(t *testing.T) {
	ctx := context.Background()
	r, m, streams := everyKind(t)
	lost := ""
	for name := range must(contents(r))(t) {
		if kindOfName(name) == "pack" {
			lost = name
			break
		}
	}
	check(t, r.store.remove(ctx, lost))
	var got []Finding
	_, err := reopen(t, r).Verify(ctx, VerifyOptions{}, func(f Finding) {
		if !f.Kind.Note() {
			got = append(got, f)
		}
	})
	check(t, err)
	if len(got) != 1 || got[0].Kind != Missing || got[0].Object != lost || !slices.Equal(got[0].Backups, []string{m.ID}) {
		t.Fatalf("findings: %v", got)
	}
	again := backup(t, reopen(t, r), streams)
	wantStreams(t, reopen(t, r), again, streams)
	wantStreams(t, reopen(t, r), m, streams)
}

// The index can be made anew from the packs.
func TestRebuildIndex(t *testing.T) {
	ctx := context.Background()
	for _, change := range []func(*InitOptions){func(*InitOptions) {}, encrypted} {
		r, m, streams := everyKind(t, change)
		before := must(r.loadIndex(ctx))(t).entries
		for name, data := range must(contents(r))(t) {
			switch kindOfName(name) {
			case "index":
				check(t, r.store.b.put(ctx, name, data[:len(data)-3], false))
			case "trash":
				check(t, r.store.b.put(ctx, name, data[1:], false))
			}
		}
		n := reopen(t, r)
		if _, err := readBack(n, m.Streams[0]); err == nil {
			t.Fatal("it reads without an index")
		}
		sh := must(n.Lock(ctx, Shared))(t)
		if _, err := n.RebuildIndex(ctx, sh); err == nil {
			t.Fatal("a shared lock was enough")
		}
		check(t, sh.Release(ctx))
		lk := must(n.Lock(ctx, Exclusive))(t)
		st := must(n.RebuildIndex(ctx, lk))(t)
		check(t, lk.Release(ctx))
		if st.Adopted < 3 || len(st.RemovedIndexes) == 0 || len(st.RemovedTrash) != 1 || len(st.Unreadable) != 0 {
			t.Fatalf("%+v", st)
		}
		if after := must(reopen(t, r).loadIndex(ctx))(t).entries; after != before {
			t.Fatalf("%d chunks, %d before", after, before)
		}
		wantStreams(t, reopen(t, r), m, streams)
	}
}

// A sample of N percent in turns reads every pack in the end.
func TestVerifyInTurns(t *testing.T) {
	ctx := context.Background()
	r := newRepo(t, func(o *InitOptions) { o.PackSize = minPackSize })
	backup(t, r, map[string][]byte{"s": noise(1, 4<<20)})
	seen := map[ID]int{}
	var total, read int64
	for turn := range 4 {
		v := &verify{o: VerifyOptions{Percent: 25, Turn: turn}}
		packs := must(r.listPacks(ctx))(t)
		for id := range packs {
			if v.chosen(id) {
				seen[id]++
			}
		}
		st := must(r.Verify(ctx, v.o, func(f Finding) { t.Errorf("finding %s", f) }))(t)
		total, read = st.Packs, read+st.PacksRead
	}
	if len(seen) != int(total) || read != total {
		t.Fatalf("%d of %d packs were read, in %d reads", len(seen), total, read)
	}
	st := must(r.Verify(ctx, VerifyOptions{Percent: 100, Progress: func(VerifyStats) {}}, func(Finding) {}))(t)
	if st.PacksRead != total || st.ChunksInUse != st.Chunks || st.Manifests != 1 {
		t.Fatalf("%+v", st)
	}
}
