package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"testing"
)

// onlyDamage fails if an error of a decoder is not one that names damage.
func onlyDamage(t *testing.T, err error) {
	t.Helper()
	var c *CorruptError
	var v *VersionError
	if err != nil && !errors.As(err, &c) && !errors.As(err, &v) {
		t.Fatalf("%T: %v", err, err)
	}
}

// seedObjects adds all objects of a kind of a plain and of an encrypted repository.
func seedObjects(f *testing.F, kind string) (plain *Repo) {
	for _, change := range []func(*InitOptions){encrypted, func(*InitOptions) {}} {
		r := newRepo(f, change, func(o *InitOptions) { o.PackSize = minPackSize })
		backup(f, r, map[string][]byte{"s": noise(1, 50<<10), "t": make([]byte, 90<<10)})
		check(f, r.PutRecord(context.Background(), "gap", "a", 1))
		lk := must(r.Lock(context.Background(), Shared))(f)
		name := kindTrash.prefix() + randomHex(16)
		check(f, r.store.put(context.Background(), name, must(r.sealJSON(kindTrash, name, &trashList{Packs: []ID{{1}}}))(f)))
		for name, data := range must(contents(r))(f) {
			if kindOfName(name) == kind {
				f.Add(data)
			}
		}
		check(f, lk.Release(context.Background()))
		plain = r
	}
	return plain
}

func FuzzMarker(f *testing.F) {
	seedObjects(f, "marker")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMarker(data)
		if err == nil {
			if again := must(m.encode())(t); !bytes.Equal(must(must(decodeMarker(again))(t).encode())(t), again) {
				t.Fatal("it does not encode to itself")
			}
		}
	})
}

func FuzzIndex(f *testing.F) {
	r := seedObjects(f, "index")
	f.Fuzz(func(t *testing.T, data []byte) {
		payload, err := r.keys.open(kindIndex, indexName(data), data)
		onlyDamage(t, err)
		if err != nil {
			payload = data
		}
		packs, err := decodeIndex(payload)
		if err != nil {
			return
		}
		if !bytes.Equal(encodeIndex(packs), payload) {
			t.Fatal("it does not encode to itself")
		}
		x := newChunkIndex()
		for _, p := range packs {
			x.add(p, false)
		}
		for _, p := range packs {
			for _, b := range p.blocks {
				for _, c := range b.chunks {
					if _, ok := x.lookup(c.id); !ok {
						t.Fatal("a chunk was not found")
					}
				}
			}
		}
	})
}

func FuzzPack(f *testing.F) {
	r := seedObjects(f, "pack")
	f.Fuzz(func(t *testing.T, data []byte) {
		name := packName(sha256.Sum256(data))
		onlyDamage(t, r.checkPack(name, data, nil))
		if p, err := r.decode(data); err == nil && (len(p.chunks) > maxBlockChunks || p.isLog && len(p.chunks) != 1) {
			t.Fatal("too many chunks")
		}
	})
}

func FuzzManifest(f *testing.F) {
	r := seedObjects(f, "manifest")
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := r.decodeManifest("manifests/x", data)
		onlyDamage(t, err)
		sealed := must(r.keys.seal(kindManifest, "manifests/x", r.codec.enc.EncodeAll(data, nil)))(t)
		m, err := r.decodeManifest("manifests/x", sealed)
		onlyDamage(t, err)
		if err == nil {
			for _, ref := range m.Streams { // whatever it refers to is not there
				if _, err := readBack(r, ref); err == nil && ref.Size != int64(len(ref.Inline)) {
					t.Fatal("a stream was read")
				}
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	r := seedObjects(f, "record")
	f.Add([]byte(`{"kind":"gap","id":"a","data":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := r.decodeRecord("records/gap/a", data)
		onlyDamage(t, err)
		sealed := must(r.keys.seal(kindRecord, "records/gap/a", r.codec.enc.EncodeAll(data, nil)))(t)
		rec, err := r.decodeRecord("records/gap/a", sealed)
		onlyDamage(t, err)
		if err == nil && (rec.Kind != "gap" || rec.ID != "a") {
			t.Fatalf("%+v", rec)
		}
	})
}

func FuzzKey(f *testing.F) {
	seedObjects(f, "key")
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, err := splitKey("keys/x", data)
		onlyDamage(t, err)
		_, err = openKey("keys/x", data, "r", nil)
		onlyDamage(t, err)
	})
}

func FuzzLock(f *testing.F) {
	r := seedObjects(f, "lock")
	f.Add([]byte(`{"pid":1,"process":"a b","ttl":-5,"kind":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		name := lockName("0123456789abcdef", 1)
		for _, object := range [][]byte{data, must(r.keys.seal(kindLock, name, r.codec.enc.EncodeAll(data, nil)))(t)} {
			var info LockInfo
			err := r.openJSON(kindLock, name, object, &info)
			onlyDamage(t, err)
			if err == nil {
				processGone(info.PID, info.Process)
				if info.String() == "" {
					t.Fatal("it has no name")
				}
			}
		}
	})
}

func FuzzTrash(f *testing.F) {
	r := seedObjects(f, "trash")
	f.Fuzz(func(t *testing.T, data []byte) {
		onlyDamage(t, r.openJSON(kindTrash, "trash/x", data, &trashList{}))
	})
}

func FuzzList(f *testing.F) {
	f.Add(appendItem(appendItem(nil, listItem{ID{1}, 5}), listItem{ID{2}, 1 << 40}))
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := decodeList(data)
		if err != nil {
			return
		}
		var b []byte
		for _, it := range items {
			b = appendItem(b, it)
		}
		if !bytes.Equal(b, data) {
			t.Fatal("it does not encode to itself")
		}
	})
}

// FuzzEncrypted feeds bytes to what opens encrypted objects.
func FuzzEncrypted(f *testing.F) {
	k := must(newKeys(make([]byte, masterSize)))(f)
	for _, text := range []string{"", "x", "a longer text"} {
		f.Add(must(k.seal(kindManifest, "manifests/x", []byte(text)))(f))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := k.open(kindManifest, "manifests/x", data)
		onlyDamage(t, err)
		_, err = k.open(kindIndex, indexName(data), data)
		onlyDamage(t, err)
	})
}

func FuzzID(f *testing.F) {
	f.Add("00")
	f.Fuzz(func(t *testing.T, s string) {
		var id ID
		if id.UnmarshalText([]byte(s)) == nil {
			if text := must(json.Marshal(id))(t); len(text) != 66 {
				t.Fatalf("%s", text)
			}
		}
	})
}
