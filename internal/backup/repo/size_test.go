package repo

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// documents makes n documents of 1 KB that compress about as data do: text of few words beside
// numbers and random ids.
func documents(n int, seed uint64) [][]byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	words := bytes.Fields([]byte("Anna Bert street Berlin Hamburg order shipped pending invoice customer blue green large small priority normal"))
	out := make([][]byte, n)
	for i := range out {
		d := make([]byte, 0, 1024)
		d = fmt.Appendf(d, "{_id:%024x,n:%d,", rng.Uint64(), i)
		for len(d) < 980 {
			d = fmt.Appendf(d, "f%d:%q,v:%d,", len(d)%17, words[rng.IntN(len(words))], rng.IntN(1e6))
		}
		out[i] = append(d[:1023], '\n')
	}
	return out
}

// The promises about the cost of a second full backup, counted in bytes that go to the store,
// indexes and lists included.
func TestSecondBackupIsSmall(t *testing.T) {
	t.Parallel()
	const n = 8 << 10 // 8 MB
	docs := documents(n, 1)
	first := bytes.Join(docs, nil)
	other := documents(4*n/100, 2) // each is used once: nothing is found that another case stored
	fresh := func() []byte {
		d := other[0]
		other = other[1:]
		return d
	}
	change := func(which func(i int) bool) []byte {
		var b []byte
		for i := range docs {
			if which(i) {
				b = append(b, fresh()...)
			} else {
				b = append(b, docs[i]...)
			}
		}
		return b
	}
	rng := rand.New(rand.NewPCG(7, 7))
	cases := []struct {
		name  string
		data  []byte
		limit float64 // of the first backup's size
	}{
		{"unchanged", first, 0},
		{"1 % appended", append(bytes.Clone(first), change(func(i int) bool { return i < n/100 })[:n/100<<10]...), 0.03},
		{"1 % in one place", change(func(i int) bool { return i >= n/2 && i < n/2+n/100 }), 0.03},
		{"1 % removed in one place", bytes.Join(append(append([][]byte{}, docs[:n/3]...), docs[n/3+n/100:]...), nil), 0.03},
		{"1 % at random", change(func(int) bool { return rng.IntN(105) == 0 }), 0.20},
	}
	for _, enc := range []bool{false, true} {
		r := newRepo(t, func(o *InitOptions) {
			o.PackSize = DefaultPackSize
			if enc {
				encrypted(o)
			}
		})
		a := backup(t, r, map[string][]byte{"s": first})
		for _, c := range cases {
			b := backup(t, r, map[string][]byte{"s": c.data})
			part := float64(b.Written.Stored) / float64(a.Written.Stored)
			t.Logf("%-26s encrypted %-5v: first %d bytes (%.2f of raw), second %d: %.2f %%", c.name, enc, a.Written.Stored,
				float64(a.Written.Stored)/float64(len(first)), b.Written.Stored, 100*part)
			if part > c.limit {
				t.Errorf("%s: the second backup stores %.2f %% of the first, want at most %.0f %%", c.name, 100*part, 100*c.limit)
			}
		}
	}
}

func TestChunkSizes(t *testing.T) {
	t.Parallel()
	for _, avg := range []int{4 << 10, 8 << 10, 16 << 10} {
		p := chunkerParams(avg)
		c := newCutter(p, nil)
		for name, data := range map[string][]byte{"noise": noise(1, 4<<20), "documents": bytes.Join(documents(4<<10, 3), nil)} {
			n, largest := 0, 0
			for rest := data; len(rest) > 0; {
				k := c.cut(rest)
				if k > p.Max || (k < p.Min && k != len(rest)) {
					t.Fatalf("a chunk of %d bytes", k)
				}
				largest = max(largest, k)
				rest = rest[k:]
				n++
			}
			mean := len(data) / n
			t.Logf("average %d, %s: mean %d, largest %d", avg, name, mean, largest)
			if mean < avg*9/10 || mean > avg*11/10 {
				t.Errorf("average %d: the mean of %s is %d", avg, name, mean)
			}
		}
	}
}

// With a key the cuts are others than without, and others for each key.
func TestKeyedCuts(t *testing.T) {
	data := noise(1, 1<<20)
	cuts := func(seed []byte) map[int]bool {
		c, at, m := newCutter(chunkerParams(8<<10), seed), 0, map[int]bool{}
		for at < len(data) {
			at += c.cut(data[at:])
			m[at] = true
		}
		return m
	}
	a, b, plain := cuts([]byte("a")), cuts([]byte("b")), cuts(nil)
	for _, p := range [][2]map[int]bool{{a, b}, {a, plain}, {b, plain}} {
		same := 0
		for at := range p[0] {
			if p[1][at] {
				same++
			}
		}
		if same > len(p[0])/10 { // the end, and chance
			t.Errorf("%d of %d cuts are the same", same, len(p[0]))
		}
	}
}

// What one can see of an encrypted repository are names, times, and sizes that are rounded.
func TestEncryptedSizesAreRounded(t *testing.T) {
	for n := range 100000 {
		p := paddedSize(n)
		if p < n || (n > 256 && float64(p) > 1.13*float64(n)) {
			t.Fatalf("%d is padded to %d", n, p)
		}
	}
	r := newRepo(t, encrypted)
	backup(t, r, map[string][]byte{"s": noise(1, 3<<20), "secret name": []byte("secret content")})
	all, err := contents(r)
	check(t, err)
	for name, data := range all {
		if name != markerName && (bytes.Contains(data, []byte("secret")) || bytes.Contains([]byte(name), []byte("secret"))) {
			t.Errorf("%s tells a secret", name)
		}
		if _, ok := packOfName(name); ok && paddedSize(len(data)) != len(data) {
			t.Errorf("%s has %d bytes", name, len(data))
		}
	}
}

func BenchmarkCut(b *testing.B) {
	data, c := noise(1, 8<<20), newCutter(chunkerParams(8<<10), nil)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for rest := data; len(rest) > 0; {
			rest = rest[c.cut(rest):]
		}
	}
}

func BenchmarkChunkID(b *testing.B) {
	data := noise(1, 8<<10)
	for _, enc := range []bool{false, true} {
		b.Run(fmt.Sprintf("encrypted=%v", enc), func(b *testing.B) {
			var master []byte
			if enc {
				master = make([]byte, masterSize)
			}
			k, err := newKeys(master)
			check(b, err)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				k.chunkID(data)
			}
		})
	}
}

// BenchmarkFirstBackup stores 64 MB of documents; user CPU a byte is what counts on a busy machine.
func BenchmarkFirstBackup(b *testing.B) {
	data := bytes.Join(documents(64<<10, 1), nil)
	for name, level := range map[string]zstd.EncoderLevel{"fastest": zstd.SpeedFastest, "default": zstd.SpeedDefault} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var stored int64
			for b.Loop() {
				r := newRepo(b, func(o *InitOptions) { o.PackSize, o.Level = DefaultPackSize, level })
				m := backup(b, r, map[string][]byte{"s": data})
				stored = m.Written.Stored
			}
			b.ReportMetric(float64(stored)/float64(len(data)), "stored/raw")
		})
	}
}

func BenchmarkReadBack(b *testing.B) {
	data := bytes.Join(documents(64<<10, 1), nil)
	r := newRepo(b, func(o *InitOptions) { o.PackSize = DefaultPackSize })
	m := backup(b, r, map[string][]byte{"s": data})
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		check(b, r.VerifyStream(context.Background(), m.Streams[0]))
	}
}
