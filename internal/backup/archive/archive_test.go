package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/cairndb/cairn/internal/bson"
)

// content is what a reader made of an archive.
type content struct {
	prelude *Prelude
	data    map[string][]byte
	order   []string
	ended   map[string]bool
}

type collect struct {
	c    *content
	name string
}

func (s *collect) Documents(block []byte) error {
	if err := whole(block); err != nil {
		return err
	}
	s.c.data[s.name] = append(s.c.data[s.name], block...)
	return nil
}

func (s *collect) End(ok bool) error {
	if _, again := s.c.ended[s.name]; again {
		return fmt.Errorf("%s ended twice", s.name)
	}
	s.c.ended[s.name] = ok
	return nil
}

func read(r io.Reader) (*content, error) {
	c := &content{data: map[string][]byte{}, ended: map[string]bool{}}
	a, err := NewReader(r)
	if err != nil {
		return c, err
	}
	c.prelude = a.Prelude()
	err = a.Run(context.Background(), func(db, coll string) (Sink, error) {
		name := namespace(db, coll)
		c.order = append(c.order, name)
		c.data[name] = nil
		return &collect{c, name}, nil
	})
	if len(c.ended) != len(c.data) {
		return c, fmt.Errorf("%d of %d namespaces saw their end; %v", len(c.ended), len(c.data), err)
	}
	return c, err
}

func write(t testing.TB, c *content, seal bool) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	p := *c.prelude
	p.Seal = seal
	if err := w.WritePrelude(&p); err != nil {
		t.Fatal(err)
	}
	for _, name := range c.order {
		db, coll, _ := strings.Cut(name, ".")
		n := w.Namespace(db, coll)
		if _, err := n.Write(c.data[name]); err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Size() != int64(out.Len()) {
		t.Fatalf("Size %d, wrote %d", w.Size(), out.Len())
	}
	return out.Bytes()
}

func golden(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/dump.archive")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A real archive is read whole, and written again it has the same bytes where the
// original wrote its collections one after the other.
func TestGolden(t *testing.T) {
	src := golden(t)
	c, err := read(bytes.NewReader(src))
	if err != nil {
		t.Fatal(err)
	}
	h := c.prelude.Header
	if h != (Header{4, "0.1", "4.2.2", "100.18.0"}) || len(c.prelude.Collections) != 20 || len(c.data) != 20 {
		t.Fatalf("header %+v, %d collections, %d with data", h, len(c.prelude.Collections), len(c.data))
	}
	if view := c.prelude.Collections[9]; view.Type != "view" || view.Collection != "view" || !strings.Contains(view.Metadata, "viewOn") {
		t.Errorf("view: %+v", view)
	}
	again := write(t, c, false)
	start := bytes.Index(src, terminatorBytes)
	if !bytes.Equal(again[:start], src[:start]) {
		t.Error("the prelude written again differs")
	}
	// In the golden archive the block of golden.capped comes before its end with
	// golden.collated between: moving that end is all that may differ.
	if len(again) != len(src) {
		t.Errorf("written again: %d bytes, were %d", len(again), len(src))
	}
	d, err := read(iotest.OneByteReader(bytes.NewReader(again)))
	if err != nil {
		t.Fatal(err)
	}
	for ns, docs := range c.data {
		if !bytes.Equal(docs, d.data[ns]) {
			t.Errorf("%s differs after a round trip", ns)
		}
	}
}

// TestBytes pins every byte of a small archive.
func TestBytes(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out)
	err := w.WritePrelude(&Prelude{Header: Header{4, "0.1", "8.0.0", "t"}, Collections: []CollectionMetadata{
		{DB: "d", Collection: "a", Metadata: "{}"}, {DB: "", Collection: "oplog"}}})
	if err != nil {
		t.Fatal(err)
	}
	doc := bson.D("x", 1)
	a, o := w.Namespace("d", "a"), w.Namespace("", "oplog")
	if _, err := a.Write(doc); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*NamespaceWriter{o, a} {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	head := func(db, coll string, eof bool, crc uint64) string {
		return string(bson.D("db", db, "collection", coll, "EOF", eof, "CRC", int64(crc)))
	}
	want := "\x6d\xe2\x99\x81" +
		string(bson.D("concurrent_collections", int32(4), "version", "0.1", "server_version", "8.0.0", "tool_version", "t")) +
		string(bson.D("db", "d", "collection", "a", "metadata", "{}", "size", int32(0), "type", "")) +
		string(bson.D("db", "", "collection", "oplog", "metadata", "", "size", int32(0), "type", "")) + "\xff\xff\xff\xff" +
		head("", "oplog", false, 0) + "\xff\xff\xff\xff" + head("", "oplog", true, 0) + "\xff\xff\xff\xff" +
		head("d", "a", false, 0) + string(doc) + "\xff\xff\xff\xff" + head("d", "a", true, crcOf(doc)) + "\xff\xff\xff\xff"
	if out.String() != want {
		t.Errorf("got  %x\nwant %x", out.String(), want)
	}
}

func crcOf(p []byte) uint64 {
	crc := ^uint64(0) // CRC-64/ECMA, reflected, bit by bit, to check the table against
	for _, b := range p {
		crc ^= uint64(b)
		for range 8 {
			crc = crc>>1 ^ crc&1*0xC96C5795D7870F42
		}
	}
	return ^crc
}

// Many writers at once, with documents from tiny to larger than a block.
func TestConcurrentWriters(t *testing.T) {
	const writers, collections = 8, 200
	p := &Prelude{Header: Header{ConcurrentCollections: writers, ServerVersion: "8.0.0", ToolVersion: "x"}, Seal: true}
	for i := range collections {
		p.Collections = append(p.Collections, CollectionMetadata{DB: "d", Collection: fmt.Sprint("c.", i)})
	}
	r, out := io.Pipe()
	w := NewWriter(out)
	want := make([][]byte, collections)
	var wg sync.WaitGroup
	jobs := make(chan int)
	for range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range jobs {
				rnd := rand.New(rand.NewPCG(1, uint64(i)))
				n := w.Namespace("d", fmt.Sprint("c.", i))
				for range rnd.IntN(20) {
					size := rnd.IntN(200)
					if rnd.IntN(10) == 0 {
						size = rnd.IntN(3 * blockSize)
					}
					docs := append(bson.D("i", i).Clone(), bson.D("pad", strings.Repeat("x", size))...)
					want[i] = append(want[i], docs...)
					if _, err := n.Write(docs); err != nil {
						t.Error(err)
					}
				}
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	go func() {
		if err := w.WritePrelude(p); err != nil {
			t.Error(err)
		}
		for i := range collections {
			jobs <- i
		}
		close(jobs)
		wg.Wait()
		out.CloseWithError(w.Close())
	}()
	c, err := read(r)
	if err != nil {
		t.Fatal(err)
	}
	if !c.prelude.Seal || c.prelude.ToolVersion != "x" {
		t.Errorf("prelude %+v", c.prelude.Header)
	}
	for i, docs := range want {
		if !bytes.Equal(docs, c.data[fmt.Sprint("d.c.", i)]) {
			t.Errorf("collection %d: %d bytes, want %d", i, len(c.data[fmt.Sprint("d.c.", i)]), len(docs))
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	start := func() *Writer {
		w := NewWriter(io.Discard)
		if err := w.WritePrelude(&Prelude{Collections: []CollectionMetadata{{DB: "d", Collection: "a"}, {DB: "d", Collection: "t", Type: "timeseries"}}}); err != nil {
			t.Fatal(err)
		}
		return w
	}
	doc := bson.D("x", 1)
	for name, f := range map[string]func() error{
		"not in the prelude": func() error { _, err := start().Namespace("d", "b").Write(doc); return err },
		"not whole":          func() error { _, err := start().Namespace("d", "a").Write(doc[:7]); return err },
		"not the length":     func() error { _, err := start().Namespace("d", "a").Write(make([]byte, 9)); return err },
		"`d.a` is in the archive already": func() error {
			w := start()
			w.Namespace("d", "a")
			return w.Namespace("d", "a").Close()
		},
		"`d.t` is in the archive already": func() error {
			w := start()
			w.Namespace("d", "system.buckets.t")
			return w.Namespace("d", "t").Close()
		},
		"was announced and not written": func() error { return start().Close() },
		"is closed": func() error {
			n := start().Namespace("d", "a")
			if err := n.Close(); err != nil {
				return err
			}
			_, err := n.Write(doc)
			return err
		},
		"announced twice": func() error {
			return NewWriter(io.Discard).WritePrelude(&Prelude{Collections: []CollectionMetadata{{DB: "d", Collection: "a"}, {DB: "d", Collection: "a"}}})
		},
		"no prelude": func() error { return NewWriter(io.Discard).Close() },
		"prelude already": func() error {
			return start().WritePrelude(&Prelude{})
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type failingWriter struct{ left int }

func (f *failingWriter) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// Wherever the stream breaks, the writer says so, at the latest in Close.
func TestWriterBroken(t *testing.T) {
	c, err := read(bytes.NewReader(golden(t)))
	if err != nil {
		t.Fatal(err)
	}
	for left := 0; left < 27000; left += 97 {
		w := NewWriter(&failingWriter{left})
		werr := w.WritePrelude(c.prelude)
		for _, name := range c.order {
			db, coll, _ := strings.Cut(name, ".")
			n := w.Namespace(db, coll)
			_, err := n.Write(c.data[name])
			werr = errors.Join(werr, err, n.Close())
		}
		if !errors.Is(werr, io.ErrClosedPipe) || !errors.Is(w.Close(), io.ErrClosedPipe) {
			t.Fatalf("broken after %d bytes: %v", left, werr)
		}
	}
}

func small(t testing.TB, seal bool) []byte {
	c := &content{prelude: &Prelude{Header: Header{ConcurrentCollections: 2, Version: "0.1", ServerVersion: "8.0.0", ToolVersion: "1"},
		Collections: []CollectionMetadata{
			{DB: "d", Collection: "a", Metadata: `{"options":{},"indexes":[]}`, Type: "collection"},
			{DB: "d", Collection: "b", Metadata: `{"options":{},"indexes":[]}`, Type: "collection"},
			{DB: "d", Collection: "v", Metadata: `{"options":{}}`, Type: "view"},
			{DB: "d", Collection: "t", Metadata: `{"options":{}}`, Type: "timeseries"},
			{DB: "", Collection: "oplog"},
		}},
		order: []string{"d.a", "d.b", "d.v", "d.system.buckets.t", ".oplog"},
		data: map[string][]byte{
			"d.a": slices.Concat(bson.D("_id", 1), bson.D("_id", 2, "s", "text")), "d.system.buckets.t": bson.D("_id", 3), ".oplog": bson.D("ts", 4)},
	}
	return write(t, c, seal)
}

// Cut at any byte, an archive is refused, and what was handed out before is a prefix of
// what it held.
func TestTruncation(t *testing.T) {
	src := small(t, false)
	whole, err := read(bytes.NewReader(src))
	if err != nil {
		t.Fatal(err)
	}
	for n := range src {
		c, err := read(bytes.NewReader(src[:n]))
		var fe *FormatError
		if !errors.As(err, &fe) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if fe.Offset > int64(n) || fe.Offset < int64(n)-200 {
			t.Errorf("cut at %d: offset %d", n, fe.Offset)
		}
		for ns, docs := range c.data {
			if !bytes.HasPrefix(whole.data[ns], docs) {
				t.Errorf("cut at %d: %s is not a prefix", n, ns)
			}
			if c.ended[ns] && !bytes.Equal(whole.data[ns], docs) {
				t.Errorf("cut at %d: %s is called whole", n, ns)
			}
		}
	}
}

// checkFlip flips a bit and demands that the damage is found, or lies in a text of the
// prelude that the format does not protect, with all data as they were.
func checkFlip(t *testing.T, src []byte, whole *content, prelude, bit int) (found bool) {
	t.Helper()
	src[bit/8] ^= 1 << (bit % 8)
	defer func() { src[bit/8] ^= 1 << (bit % 8) }()
	c, err := read(bytes.NewReader(src))
	if err != nil {
		var fe *FormatError
		if !errors.As(err, &fe) {
			t.Errorf("bit %d: not a FormatError: %v", bit, err)
		} else if fe.Offset > int64(len(src)) {
			t.Errorf("bit %d: offset %d", bit, fe.Offset)
		}
		return true
	}
	if bit/8 >= prelude {
		t.Errorf("bit %d (byte %d) behind the prelude was not found", bit, bit/8)
	}
	for ns, docs := range whole.data {
		if !bytes.Equal(docs, c.data[ns]) || !c.ended[ns] {
			t.Errorf("bit %d: the data of %s changed silently", bit, ns)
		}
	}
	if whole.prelude.Seal {
		// Only a seal that is no longer recognised may pass, with nothing else changed.
		p, q := *whole.prelude, *c.prelude
		if q.Seal || !slices.Equal(p.Collections, q.Collections) || p.ServerVersion != q.ServerVersion || p.ConcurrentCollections != q.ConcurrentCollections {
			t.Errorf("bit %d of a sealed prelude was not found", bit)
		}
	}
	return false
}

func TestFlippedBits(t *testing.T) {
	for name, src := range map[string][]byte{"golden": golden(t), "small": small(t, false), "small sealed": small(t, true)} {
		whole, err := read(bytes.NewReader(src))
		if err != nil {
			t.Fatal(err)
		}
		prelude := bytes.Index(src, terminatorBytes)
		if name == "golden" { // by 10,000 random bits behind the prelude and 2,000 in it
			rnd := rand.New(rand.NewPCG(7, 7))
			for range 10000 {
				checkFlip(t, src, whole, prelude, prelude*8+rnd.IntN((len(src)-prelude)*8))
			}
			for range 2000 {
				checkFlip(t, src, whole, prelude, rnd.IntN(prelude*8))
			}
			continue
		}
		passed := 0
		for bit := range len(src) * 8 { // every one
			if !checkFlip(t, src, whole, prelude, bit) {
				passed++
			}
		}
		if limit := len(sealMark) * 8; name == "small sealed" && passed > limit {
			t.Errorf("%d flips of a sealed archive passed, more than the %d of the seal's mark", passed, limit)
		}
	}
}

// A namespace that is doubled, ended twice or not announced, data behind an end, garbage
// behind the last: all refused by name.
func TestOutOfOrder(t *testing.T) {
	src := small(t, false)
	start := bytes.Index(src, terminatorBytes) + 4
	block := func(db, coll string, eof bool, docs ...bson.Raw) string {
		s := string(bson.D("db", db, "collection", coll, "EOF", eof, "CRC", int64(0)))
		for _, d := range docs {
			s += string(d)
		}
		return s + "\xff\xff\xff\xff"
	}
	for _, c := range []struct{ name, body, why, ns string }{
		{"twice", string(src[start:]) + block("d", "a", false), "already opened", "d.a"},
		{"ended twice", string(src[start:]) + block("d", "a", true), "already opened", "d.a"},
		{"not announced", block("d", "c", false), "no collection of the prelude", "d.c"},
		{"data behind an end", block("d", "a", true, bson.D("x", 1)), "without a collection header", "d.a"},
		{"terminator alone", "\xff\xff\xff\xff", "consecutive terminators", ""},
		{"garbage", string(src[start:]) + "garbage", "neither a valid bson length", ""},
		{"one byte more", string(src[start:]) + "\x00", "I/O error", ""},
		{"unfinished", block("d", "a", false), "unfinished", "d.a"},
		{"nothing", "", "before all collections", "d.a"},
	} {
		_, err := read(strings.NewReader(string(src[:start]) + c.body))
		var fe *FormatError
		if !errors.As(err, &fe) || !strings.Contains(fe.Why, c.why) || fe.Namespace != c.ns {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := NewReader(strings.NewReader("PK\x03\x04 a zip file")); !errors.Is(err, ErrNotArchive) {
		t.Errorf("not an archive: %v", err)
	}
}

// A sink's error and a cancelled context end the run, and every open sink hears of it.
func TestSinkErrors(t *testing.T) {
	src := golden(t)
	boom := errors.New("boom")
	a, err := NewReader(bytes.NewReader(src))
	if err != nil {
		t.Fatal(err)
	}
	s := &failingSink{err: boom}
	if err := a.Run(context.Background(), func(db, coll string) (Sink, error) { return s, nil }); !errors.Is(err, boom) || !slices.Equal(s.ends, []bool{false}) {
		t.Errorf("%v, ends %v", err, s.ends)
	}
	a, _ = NewReader(bytes.NewReader(src))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Run(ctx, func(db, coll string) (Sink, error) { return &failingSink{}, nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	a, _ = NewReader(bytes.NewReader(src))
	if err := a.Run(context.Background(), func(db, coll string) (Sink, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Error(err)
	}
	a, _ = NewReader(bytes.NewReader(src))
	if err := a.Run(context.Background(), func(db, coll string) (Sink, error) { return nil, nil }); err != nil {
		t.Errorf("all skipped: %v", err)
	}
}

type failingSink struct {
	err  error
	ends []bool
}

func (s *failingSink) Documents([]byte) error { return s.err }
func (s *failingSink) End(ok bool) error      { s.ends = append(s.ends, ok); return nil }

// Whatever the bytes, the reader ends without a panic; what it accepts, written again,
// reads the same.
func FuzzReader(f *testing.F) {
	f.Add(golden(f))
	f.Add(small(f, false))
	f.Add(small(f, true))
	f.Add([]byte("\x6d\xe2\x99\x81"))
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := read(bytes.NewReader(src))
		if err != nil {
			var fe *FormatError
			if !errors.As(err, &fe) {
				t.Fatalf("not a FormatError: %v", err)
			}
			return
		}
		d, err := read(bytes.NewReader(write(t, c, c.prelude.Seal)))
		if err != nil {
			t.Fatal(err)
		}
		for ns, docs := range c.data {
			if !bytes.Equal(docs, d.data[ns]) {
				t.Fatalf("%s differs after a round trip", ns)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	c := &content{prelude: &Prelude{Header: Header{Version: "0.1"}, Collections: []CollectionMetadata{{DB: "d", Collection: "a"}}}, order: []string{"d.a"}, data: map[string][]byte{}}
	doc := bson.D("_id", 1, "pad", strings.Repeat("x", 1000))
	for range 10000 {
		c.data["d.a"] = append(c.data["d.a"], doc...)
	}
	src := write(b, c, false)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		a, err := NewReader(bytes.NewReader(src))
		if err != nil {
			b.Fatal(err)
		}
		if err := a.Run(context.Background(), func(string, string) (Sink, error) { return nil, nil }); err != nil {
			b.Fatal(err)
		}
	}
}
