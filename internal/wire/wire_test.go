package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

var ping = bson.D("ping", 1, "$db", "admin")

func parser() *Parser { return &Parser{Compression: NewCompression()} }

func TestParseMsg(t *testing.T) {
	docs := []bson.Raw{bson.D("_id", 1), bson.D("_id", 2, "a", "x"), bson.D()}
	m := Msg{RequestID: 7, Body: bson.D("insert", "c", "$db", "test"), Sequences: []Docs{{"documents", docs}}, Checksum: true, ExhaustAllowed: true}
	var r Request
	if err := parser().Parse(m.Append(nil), &r); err != nil {
		t.Fatal(err)
	}
	if r.RequestID != 7 || r.Command() != "insert" || r.DB != "test" || !r.Checksum() || !r.ExhaustAllowed || r.NoReply || r.Deep || r.Legacy {
		t.Fatalf("%+v", r)
	}
	s := &r.Sequences[0]
	if s.ID != "documents" || s.Len() != 3 || s.Size() != len(docs[0])+len(docs[1])+len(docs[2]) {
		t.Fatalf("%+v", s)
	}
	if got := s.AppendTo(nil); !slices.EqualFunc(got, docs, func(a, b bson.Raw) bool { return bytes.Equal(a, b) }) {
		t.Fatalf("%v", got)
	}
	for d := range s.All() {
		if !bytes.Equal(d, docs[0]) {
			t.Fatalf("%v", d)
		}
		break
	}
}

func nested(levels int) bson.Raw {
	d := bson.D("x", 1)
	for range levels - 1 {
		d = bson.D("a", d)
	}
	return d
}

func withDB(d bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	b.AppendElems(d)
	b.Str("$db", "t")
	return b.Finish()
}

func TestParseErrors(t *testing.T) {
	valid := (&Msg{Body: ping, Checksum: true}).Append(nil)
	edit := func(f func(b []byte) []byte) []byte {
		b := f(bytes.Clone(valid))
		if len(b) >= 4 {
			binary.LittleEndian.PutUint32(b, uint32(len(b)))
		}
		return b
	}
	plain := (&Msg{Body: ping}).Append(nil)
	raw := func(flags uint32, sections ...byte) []byte {
		b := make([]byte, 20)
		binary.LittleEndian.PutUint32(b[12:], uint32(OpMsg))
		binary.LittleEndian.PutUint32(b[16:], flags)
		b = append(b, sections...)
		binary.LittleEndian.PutUint32(b, uint32(len(b)))
		return b
	}
	body := append([]byte{0}, ping...)
	seq := func(id string, docs ...byte) []byte {
		b := append([]byte{1, 0, 0, 0, 0}, id...)
		b = append(append(b, 0), docs...)
		binary.LittleEndian.PutUint32(b[1:], uint32(len(b)-1))
		return b
	}
	for _, c := range []struct {
		name string
		msg  []byte
		want string        // part of a frame error
		code mongoerr.Code // or the code of a reply
	}{
		{"short", []byte{1, 2, 3}, "too few", 0},
		{"length", plain[:len(plain)-1], "length", 0},
		{"opcode", edit(func(b []byte) []byte { b[12] = 99; return b }), "not supported", 0},
		{"checksum", edit(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), "checksum", 0},
		{"body bit", edit(func(b []byte) []byte { b[30] ^= 1; return b }), "checksum", 0},
		{"required flag", raw(1<<5, body...), "flags", 0},
		{"no sections", raw(0), "without a body", 0},
		{"only sequence", raw(0, seq("documents")...), "without a body", 0},
		{"two bodies", raw(0, append(body, body...)...), "more than one", 0},
		{"kind", raw(0, append(body, 9, 5, 0, 0, 0, 0)...), "kind 9", 0},
		{"overrun", raw(0, 0, 200, 0, 0, 0, 0), "overruns", 0},
		{"negative", raw(0, 0, 0xff, 0xff, 0xff, 0xff, 0), "overruns", 0},
		{"sequence twice", raw(0, slices.Concat(body, seq("d"), seq("d"))...), "twice", 0},
		{"sequence no id", raw(0, slices.Concat(body, []byte{1, 6, 0, 0, 0, 'a', 'b'})...), "identifier", 0},
		{"sequence overrun", raw(0, slices.Concat(body, seq("d", 9, 0, 0, 0, 0))...), "overruns", 0},
		{"sequence bad doc", raw(0, slices.Concat(body, seq("d", 4, 0, 0, 0))...), "", mongoerr.InvalidBSON},
		{"sequence and field", raw(0, slices.Concat(body, seq("ping"))...), "", 40433},
		{"bad bson", raw(0, 0, 6, 0, 0, 0, 1, 0), "", mongoerr.InvalidBSON},
		{"no db", (&Msg{Body: bson.D("ping", 1)}).Append(nil), "", 40571},
		{"db type", (&Msg{Body: bson.D("ping", 1, "$db", 1)}).Append(nil), "", 40571},
		{"too deep", (&Msg{Body: withDB(nested(MaxMessageDepth + 1))}).Append(nil), "", mongoerr.Overflow},
		{"too large", (&Msg{Body: bson.D("x", strings.Repeat("a", MaxInternalDocSize), "$db", "a")}).Append(nil), "", mongoerr.BSONObjectTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Request
			err := parser().Parse(c.msg, &r)
			var fe *FrameError
			if errors.As(err, &fe) {
				if c.want == "" || !strings.Contains(fe.Reason, c.want) {
					t.Fatalf("frame error %q, want %q %v", fe.Reason, c.want, c.code)
				}
				return
			}
			if c.want != "" || mongoerr.CodeOf(err) != c.code || c.code == 0 {
				t.Fatalf("%v, want %q %v", err, c.want, c.code)
			}
		})
	}
}

func TestDeepIsMarked(t *testing.T) {
	for levels, deep := range map[int]bool{bson.MaxDepth: false, bson.MaxDepth + 1: true, MaxMessageDepth: true} {
		var r Request
		if err := parser().Parse((&Msg{Body: withDB(nested(levels))}).Append(nil), &r); err != nil || r.Deep != deep {
			t.Errorf("%d levels: deep %v, %v", levels, r.Deep, err)
		}
	}
}

func TestParseQuery(t *testing.T) {
	for _, c := range []struct {
		name, ns string
		query    bson.Raw
		code     mongoerr.Code
	}{
		{"isMaster", "admin.$cmd", bson.D("isMaster", 1), 0},
		{"hello", "x.$cmd", bson.D("hello", 1), 0},
		{"wrapped", "admin.$cmd", bson.D("$query", bson.D("ismaster", 1), "$readPreference", bson.D("mode", "primary")), 0},
		{"find", "db.c", bson.D(), mongoerr.UnsupportedOpQueryCommand},
		{"command", "admin.$cmd", bson.D("ping", 1), mongoerr.UnsupportedOpQueryCommand},
		{"empty", "admin.$cmd", bson.D(), mongoerr.UnsupportedOpQueryCommand},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Request
			err := parser().Parse(AppendQuery(nil, 3, c.ns, c.query), &r)
			if mongoerr.CodeOf(err) != c.code || !r.Legacy || r.RequestID != 3 {
				t.Fatalf("%v %+v", err, r)
			}
			if err == nil && (r.DB+".$cmd" != c.ns || !strings.EqualFold(r.Command(), "ismaster") && r.Command() != "hello") {
				t.Fatalf("%s %s", r.DB, r.Command())
			}
		})
	}
}

func TestReplyRoundTrip(t *testing.T) {
	big := strings.Repeat("all work and no play ", 10_000)
	for _, id := range []CompressorID{CompressorNone, CompressorSnappy, CompressorZlib, CompressorZstd} {
		for _, text := range []string{"", "short", big} {
			p := parser()
			m := Msg{RequestID: 5, Body: bson.D("echo", text, "$db", "a")}
			for range 3 { // the pools' second and third use
				msg, err := m.AppendCompressed(nil, id, p.Compression)
				if err != nil {
					t.Fatal(err)
				}
				var r Request
				if err := p.Parse(msg, &r); err != nil {
					t.Fatalf("%s: %v", id, err)
				}
				var out Reply
				out.Reset(&r)
				out.Doc().Str("dropped", "by the second Doc")
				out.Doc().Str("you", r.Body.Get("echo").Str())
				reply, err := out.Finish(&r, 9, true, p.Compression)
				if err != nil {
					t.Fatal(err)
				}
				a, err := ParseAnswer(reply, p.Compression)
				if err != nil {
					t.Fatal(err)
				}
				if a.Compressor != id || a.RequestID != 9 || a.ResponseTo != 5 || !a.MoreToCome || a.Doc.Get("you").Str() != text || a.Doc.Len() != 1 {
					t.Fatalf("%s: %+v", id, a.Header)
				}
				out.Free()
				r.Release()
			}
			if in, out, din, dout := p.Compression.Stats[id].Load(); in == 0 || in != dout && out != din {
				t.Errorf("%s: counters %d %d %d %d", id, in, out, din, dout)
			}
		}
	}
}

func TestReplyKinds(t *testing.T) {
	c := NewCompression()
	var out Reply
	for _, r := range []*Request{{checksum: true}, {Legacy: true}, {}} {
		out.Reset(r)
		out.Doc().Double("ok", 0)
		out.Fail()
		msg, err := out.Finish(r, 1, false, c)
		if err != nil {
			t.Fatal(err)
		}
		a, err := ParseAnswer(msg, c)
		if err != nil || a.Checksum != r.checksum || a.Failure != r.Legacy || a.Doc.Len() != 1 || a.MoreToCome {
			t.Fatalf("%+v %v", a, err)
		}
	}
	out.Reset(&Request{})
	out.Doc().Str("x", strings.Repeat("a", MaxInternalDocSize))
	if _, err := out.Finish(&Request{}, 1, false, c); !mongoerr.Is(err, mongoerr.BSONObjectTooLarge) {
		t.Fatalf("too large a reply: %v", err)
	}
	out.Doc().Int32("fits", 1)
	if msg, err := out.Finish(&Request{}, 1, false, c); err != nil || len(msg) > 64 {
		t.Fatalf("%d bytes, %v", len(msg), err)
	}
}

func TestDecompressRefuses(t *testing.T) {
	p := parser()
	good := func(id CompressorID) []byte {
		b, err := (&Msg{Body: bson.D("ping", strings.Repeat("x", 500), "$db", "a")}).AppendCompressed(nil, id, p.Compression)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	size := func(b []byte, n int) []byte { binary.LittleEndian.PutUint32(b[20:], uint32(n)); return b }
	for id := CompressorNone; id < compressors; id++ {
		real := int(binary.LittleEndian.Uint32(good(id)[20:]))
		for name, msg := range map[string][]byte{
			"one more":  size(good(id), real+1),
			"one less":  size(good(id), real-1),
			"negative":  size(good(id), -1),
			"huge":      size(good(id), MaxMessageSize-headerSize),
			"too large": size(good(id), MaxMessageSize),
			"nested":    func() []byte { b := good(id); binary.LittleEndian.PutUint32(b[16:], uint32(OpCompressed)); return b }(),
			"garbage":   func() []byte { b := good(id); clear(b[25:]); return b }(),
			"unknown":   func() []byte { b := good(id); b[24] = 17; return b }(),
		} {
			var r Request
			err := p.Parse(msg, &r)
			var fe *FrameError
			if !errors.As(err, &fe) && !(id == CompressorNone && name == "garbage") {
				t.Errorf("%s %s: %v", id, name, err)
			}
			r.Release()
		}
	}
}

func TestReader(t *testing.T) {
	var stream []byte
	var want [][]byte
	for i, n := range []int{0, 1, 100, 3000, 3900, 5000, 50, 200_000, 3_000_000, 4070, 10} {
		m := Msg{RequestID: int32(i), Body: bson.D("x", strings.Repeat("y", n), "$db", "d")}
		want = append(want, m.Append(nil))
		stream = append(stream, want[i]...)
	}
	for name, src := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "halves": iotest.HalfReader(bytes.NewReader(stream)), "data with EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		r := NewReader(src, MaxMessageSize)
		for i, w := range want {
			msg, err := r.Next()
			if err != nil || !bytes.Equal(msg, w) {
				t.Fatalf("%s: message %d: %d bytes, want %d: %v", name, i, len(msg), len(w), err)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Fatalf("%s: %v", name, err)
		}
	}
	r := NewReader(iotest.OneByteReader(bytes.NewReader(stream[:20_000])), MaxMessageSize)
	var err error
	for err == nil {
		_, err = r.Next()
	}
	if err != io.ErrUnexpectedEOF {
		t.Fatalf("cut stream: %v", err)
	}
	r = NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), MaxMessageSize)
	var fe *FrameError
	if _, err := r.Next(); !errors.As(err, &fe) || string(fe.Head[:4]) != "GET " {
		t.Fatal(err)
	}
}

// countingReader counts calls and hands out what is there, as a socket does.
type countingReader struct {
	src   io.Reader
	calls int
}

func (c *countingReader) Read(p []byte) (int, error) { c.calls++; return c.src.Read(p) }

func TestSmallMessageIsOneRead(t *testing.T) {
	msg := (&Msg{Body: ping}).Append(nil)
	pr, pw := io.Pipe()
	src := &countingReader{src: pr}
	go func() {
		for range 10 {
			pw.Write(msg)
		}
		pw.Close()
	}()
	r := NewReader(src, MaxMessageSize)
	for range 10 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if src.calls != 10 {
		t.Fatalf("%d reads for 10 messages", src.calls)
	}
}

func TestStalledClaimHoldsLittle(t *testing.T) {
	const conns = 20
	head := make([]byte, headerSize)
	Header{Length: MaxMessageSize, OpCode: OpMsg}.put(head)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	readers := make([]*Reader, conns)
	for i := range readers {
		readers[i] = NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(make([]byte, 1000)), iotest.ErrReader(io.ErrNoProgress)), MaxMessageSize)
		if _, err := readers[i].Next(); err != io.ErrNoProgress {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if held := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / conns; held > 1<<20 {
		t.Fatalf("a stalled claim holds %d bytes", held)
	}
	runtime.KeepAlive(readers)
}

func TestBufferClasses(t *testing.T) {
	for _, n := range []int{0, 1, 4096, 4097, 100_000, maxPooled, maxPooled + 1} {
		b := GetBuffer(n)
		if cap(b.B) < n || len(b.B) != 0 {
			t.Fatalf("%d: len %d cap %d", n, len(b.B), cap(b.B))
		}
		b.B = append(b.B, make([]byte, n)...)
		b.Free()
	}
	(*Buffer)(nil).Free()
}

func TestParseDoesNotAllocate(t *testing.T) {
	msg := (&Msg{Body: bson.D("insert", "c", "$db", "test"), Sequences: []Docs{{"documents", []bson.Raw{bson.D("a", 1)}}}}).Append(nil)
	p, r, out := parser(), Request{}, Reply{}
	n := testing.AllocsPerRun(1000, func() {
		if err := p.Parse(msg, &r); err != nil {
			t.Fatal(err)
		}
		out.Reset(&r)
		out.Doc().Double("ok", 1)
		if _, err := out.Finish(&r, 1, false, p.Compression); err != nil {
			t.Fatal(err)
		}
		out.Free()
	})
	if n > 0.5 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkParsePing(b *testing.B) {
	msg := (&Msg{Body: bson.D("ping", 1, "lsid", bson.D("id", bson.UUID{}), "$db", "admin")}).Append(nil)
	p, r := parser(), Request{}
	for b.Loop() {
		if err := p.Parse(msg, &r); err != nil {
			b.Fatal(err)
		}
	}
}
