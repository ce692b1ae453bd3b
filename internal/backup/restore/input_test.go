package restore

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/cairndb/cairn/internal/bson"
)

func someDocs(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var out []byte
	for i := range n {
		size := r.IntN(300)
		if r.IntN(50) == 0 {
			size = r.IntN(2 * blockSize)
		}
		out = append(out, bson.D("_id", i, "pad", strings.Repeat("x", size))...)
	}
	return out
}

func TestReadDocuments(t *testing.T) {
	docs := someDocs(500, 1)
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(docs), "halves": iotest.HalfReader(bytes.NewReader(docs)),
		"error with data": iotest.DataErrReader(bytes.NewReader(docs)), "nothing": strings.NewReader(""),
	} {
		var got []byte
		err := readDocuments(r, maxDocument, func(b []byte) error {
			for rest := b; len(rest) > 0; rest = rest[docSize(rest):] {
				if docSize(rest) > len(rest) {
					t.Fatal("a run holds a part of a document")
				}
			}
			got = append(got, b...)
			return nil
		})
		if err != nil || name != "nothing" && !bytes.Equal(got, docs) {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
	}
	boom := errors.New("boom")
	if err := readDocuments(bytes.NewReader(docs), maxDocument, func([]byte) error { return boom }); !errors.Is(err, boom) {
		t.Error(err)
	}
	if err := readDocuments(iotest.ErrReader(boom), maxDocument, func([]byte) error { return nil }); !errors.Is(err, boom) {
		t.Error(err)
	}
}

// What is no stream of whole documents is refused, with everything before it handed on.
func TestReadDocumentsDamaged(t *testing.T) {
	one := string(bson.D("a", 1))
	for _, c := range []struct{ name, in, want string }{
		{"length too small", one + "\x04\x00\x00\x00\x00", "invalid BSONSize: 4 bytes is less than 5 bytes"},
		{"length too large", one + "\xff\xff\xff\x7f", "invalid BSONSize: 2147483647 bytes is larger than maximum of"},
		{"cut in the length", one + "\x0c\x00", "unexpected EOF"},
		{"cut behind the length", one + one[:4], "invalid bson: EOF"},
		{"cut in the document", one + one[:9], "unexpected EOF"},
		{"no terminator", one + one[:len(one)-1] + "\x01", "does not end with a null byte"},
	} {
		n := 0
		err := readDocuments(strings.NewReader(c.in), maxDocument, func(b []byte) error { n += len(b); return nil })
		if err == nil || !strings.Contains(err.Error(), c.want) || n != len(one) {
			t.Errorf("%s: %v, %d bytes handed on", c.name, err, n)
		}
	}
}

func pack(t testing.TB, f form, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch f {
	case gzipped:
		w = gzip.NewWriter(&b)
	case zstandard:
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	case snappy:
		w = s2.NewWriter(&b, s2.WriterSnappyCompat())
	default:
		return p
	}
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Every form is read from a file and a stream; two members one behind the other are one
// stream; a cut is an error.
func TestForms(t *testing.T) {
	docs := someDocs(300, 2)
	half := len(docs) / 2
	for f, ext := range map[form]string{plain: "", gzipped: ".gz", zstandard: ".zst", snappy: ".sz"} {
		packed := append(bytes.Clone(pack(t, f, docs[:half])), pack(t, f, docs[half:])...)
		path := filepath.Join(t.TempDir(), "c.bson"+ext)
		if err := os.WriteFile(path, packed, 0o600); err != nil {
			t.Fatal(err)
		}
		base, got := splitForm(path)
		if got != f || !strings.HasSuffix(base, ".bson") {
			t.Errorf("%s: form %d of %s", ext, got, base)
		}
		in, err := openFile(path, f)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(in)
		if err != nil || !bytes.Equal(all, docs) || in.Pos() != int64(len(packed)) {
			t.Errorf("%s: %v, %d bytes, position %d of %d", ext, err, len(all), in.Pos(), len(packed))
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if in, err = openStream(iotest.HalfReader(bytes.NewReader(packed)), true, nil); err != nil {
			t.Fatal(err)
		}
		if all, err := io.ReadAll(in); err != nil || !bytes.Equal(all, docs) {
			t.Errorf("%s as a stream: %v, %d bytes", ext, err, len(all))
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if f == plain {
			continue
		}
		if err := os.WriteFile(path, packed[:len(packed)-3], 0o600); err != nil {
			t.Fatal(err)
		}
		if in, err = openFile(path, f); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(in); err == nil {
			t.Errorf("%s: a cut file is read without an error", ext)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		// Closed before it was read to its end.
		if in, err = openFile(path, f); err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSniff(t *testing.T) {
	long := bson.D("pad", strings.Repeat("x", 559903-5-4-5-1)) // its length begins with gzip's magic
	if docSize(long) != 0x088b1f {
		t.Fatal(docSize(long))
	}
	if f := sniff(long[:16], true); f != plain {
		t.Errorf("documents of that length are taken for form %d", f)
	}
	if f := sniff(pack(t, gzipped, long)[:16], true); f != gzipped {
		t.Errorf("a gzip stream is form %d", f)
	}
	if f := sniff([]byte("\x6d\xe2\x99\x81"), false); f != plain {
		t.Errorf("an archive is form %d", f)
	}
}

func FuzzReadDocuments(f *testing.F) {
	f.Add([]byte(someDocs(3, 1)))
	f.Add([]byte("\x05\x00\x00\x00\x00\x0c"))
	f.Fuzz(func(t *testing.T, p []byte) {
		n := 0
		err := readDocuments(iotest.HalfReader(bytes.NewReader(p)), maxDocument, func(b []byte) error {
			if !bytes.Equal(p[n:n+len(b)], b) {
				t.Fatal("handed on what was not there")
			}
			n += len(b)
			return nil
		})
		if (err == nil) != (n == len(p)) {
			t.Fatalf("%d of %d bytes, %v", n, len(p), err)
		}
	})
}
