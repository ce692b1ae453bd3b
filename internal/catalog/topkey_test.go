package catalog

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cairndb/cairn/internal/storage"
)

// TestTopKeyModel: whatever the order of the keys, none that was put is called new; and keys
// that several clients put a little out of order are all known to be.
func TestTopKeyModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		top := &topKey{known: true}
		put := map[string]bool{}
		pass := func(key []byte) bool {
			fresh, err := top.passes(storage.IndexStore{}, nil, key)
			if err != nil {
				t.Fatal(err)
			}
			if fresh && put[string(key)] {
				t.Fatalf("seed %d: %x is called new and was put", seed, key)
			}
			put[string(key)] = true
			return fresh
		}
		key := func(n int) []byte { return binary.BigEndian.AppendUint32([]byte{0x2b}, uint32(n*2)) }
		for range 3000 {
			switch k := key(r.IntN(2000)); r.IntN(3) {
			case 0:
				pass(k)
			case 1: // of another length
				pass(append(k, byte(r.IntN(3))))
			default:
				pass(append([]byte{byte(r.IntN(3)), 9, 9, 9, 9, 9, 9}, k...))
			}
		}
	}
	// 16 clients, each with a run of its own, all at once.
	top := &topKey{known: true}
	r := rand.New(rand.NewPCG(1, 1))
	var runs [16]int
	next, known, all := 0, 0, 0
	for c := range runs {
		runs[c] = next
		next += 500
	}
	for range 100_000 {
		c := r.IntN(len(runs))
		fresh, err := top.passes(storage.IndexStore{}, nil, binary.BigEndian.AppendUint64(nil, uint64(2*(runs[c]+1))))
		if err != nil {
			t.Fatal(err)
		}
		all++
		if fresh {
			known++
		}
		if runs[c]++; runs[c]%500 == 0 {
			runs[c], next = next, next+500
		}
	}
	if known < all*95/100 {
		t.Errorf("of %d keys of growing runs %d are known to be new", all, known)
	}
}
