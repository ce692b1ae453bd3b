package tool

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/youmark/pkcs8"

	"github.com/cairndb/cairn/cairntest"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("长", 100) // 900 bytes escaped
	for name, want := range map[string]string{
		"plain":      "plain",
		"with.dots":  "with.dots",
		"a/b":        "a%2Fb",
		"per%25cent": "per%2525cent",
		"with space": "with+space",
		"ünïcode":    "%C3%BCn%C3%AFcode",
	} {
		got := EscapeName(name)
		if got != want {
			t.Errorf("%s: %s", name, got)
		}
		back, cut, err := UnescapeName(got)
		if back != name || cut || err != nil {
			t.Errorf("%s: back to %s, %v, %v", name, back, cut, err)
		}
	}
	got := EscapeName(long)
	if len(got) != maxFileName || !strings.HasPrefix(got[cutFileName:], "%24") {
		t.Errorf("long: %d bytes %s", len(got), got)
	}
	if _, cut, err := UnescapeName(got); !cut || err != nil {
		t.Errorf("a cut name is taken for a whole one: %v", err)
	}
	if got := EscapeNameFor(long, ".zst"); len(got+".metadata.json.zst") != 255 {
		t.Errorf("%d bytes with .metadata.json.zst", len(got+".metadata.json.zst"))
	} else if _, cut, err := UnescapeName(got); !cut || err != nil {
		t.Errorf("a cut name is taken for a whole one: %v", err)
	}
	if EscapeName(strings.Repeat("x", 239)) == EscapeName(strings.Repeat("x", 240)) {
		t.Error("two long names have one file")
	}
	for _, bad := range []string{"a/b", "a.b", strings.Repeat("x", 64)} {
		if ValidateDBName(bad) == nil {
			t.Errorf("database %q accepted", bad)
		}
	}
}

func entries(t *testing.T, dir string) string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestWholeFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("n", 255)) // the longest name a file can have
	w, err := CreateWhole(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if e := entries(t, dir); !strings.HasSuffix(e, PartialSuffix) {
		t.Fatalf("before Commit the directory holds %q", e)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if e := entries(t, dir); e != filepath.Base(path) {
		t.Fatalf("after Commit the directory holds %q", e)
	}

	// A file that is there stays until its successor is whole, and keeps its permissions.
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	w, err = CreateWhole(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("bye")); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "hello" {
		t.Fatalf("%q, %v", b, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if w, err = CreateWhole(link); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Lstat(path)
	if err != nil || fi.Size() != 0 || fi.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", fi, err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", fi, err)
	}

	if w, err = CreateWhole(os.DevNull); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateWhole(dir); err == nil {
		t.Error("a directory was opened as a file")
	}
	_, err = CreateWhole(filepath.Join(dir, "no", "such"))
	if err == nil || !strings.Contains(err.Error(), filepath.Join("no", "such")) {
		t.Errorf("the error names another file: %v", err)
	}
}

func TestLogAndLines(t *testing.T) {
	var buf bytes.Buffer
	l := NewLog(&buf, 1)
	l.Always("a %d", 1)
	l.Info("b")
	l.Debug("c")
	NewLog(&buf, -1).Always("quiet")
	lines := strings.Split(buf.String(), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "\ta 1") || !strings.HasSuffix(lines[1], "\tb") {
		t.Fatalf("%q", lines)
	}
	if _, err := time.Parse(timeFormat, strings.Split(lines[0], "\t")[0]); err != nil {
		t.Error(err)
	}

	buf.Reset()
	p := NewProgress(l, ProgressOptions{Every: time.Hour})
	a := p.Start("db.a", 200)
	b := p.Start("db.long", 0)
	a.Add(50)
	b.Add(7)
	p.lines()
	a.Done()
	p.Start("never rendered", 1).Done()
	p.Stop()
	var got []string
	for _, line := range strings.Split(strings.TrimSuffix(buf.String(), "\n"), "\n") {
		_, text, _ := strings.Cut(line, "\t")
		got = append(got, text)
	}
	want := []string{
		"[######..................]  db.a  50/200  (25.0%)",
		"                   db.long     7",
		"",
		"[######..................]  db.a  50/200  (25.0%)",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var none *Progress
	none.Start("x", 1).Add(1)
	none.Stop()
}

func TestSignals(t *testing.T) {
	killed := make(chan struct{})
	ctx, stop := WithSignals(context.Background(), NewLog(new(bytes.Buffer), 0), func() { close(killed) })
	defer stop()
	for range 2 {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
	}
	<-killed
	if context.Cause(ctx) != ErrTerminated {
		t.Error(context.Cause(ctx))
	}
}

func TestFactsAndConnect(t *testing.T) {
	uri := cairntest.Start(t, cairntest.ReplSet("rs"))
	o := newTestOptions(t, false)
	if _, err := o.Parse([]string{uri}); err != nil {
		t.Fatal(err)
	}
	c, err := o.Connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(context.Background())
	s, err := Facts(context.Background(), c)
	if err != nil || s.Version[0] != 8 || s.SetName != "rs" || s.Mongos || s.Atlas || s.Cairn == "" || s.MaxWireVersion < 21 || !s.Primary || !s.Hosts {
		t.Errorf("%+v %v", s, err)
	}
	if !s.AtLeast(7, 9, 9) || s.RawData() {
		t.Errorf("%+v compares wrongly", s)
	}

	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrTerminated)
	if _, err := o.Connect(ctx); err != ErrTerminated {
		t.Errorf("a cancelled connect says %v", err)
	}
}

func TestClientCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "me", Organization: []string{"us"}}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := pkcs8.ConvertPrivateKeyToPKCS8(key, []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: enc})
	dir := t.TempDir()
	write := func(name string, b ...[]byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, bytes.Join(b, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	both := write("both.pem", keyPEM, certPEM)
	for _, c := range []struct {
		files []string
		pw    string
		want  string // an error, or the subject
	}{
		{[]string{both}, "pw", "O=us,CN=me"},
		{[]string{write("key.pem", keyPEM), write("cert.pem", certPEM)}, "pw", "O=us,CN=me"},
		{[]string{both}, "", "no password provided to decrypt private key"},
		{[]string{both}, "no", "pkcs8: incorrect password"},
		{[]string{write("c", certPEM)}, "", "failed to find PRIVATE KEY"},
		{[]string{write("k", keyPEM)}, "pw", "failed to find CERTIFICATE"},
	} {
		_, got, err := clientCertificate(c.files, c.pw)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v %q: %s, want %s", c.files, c.pw, got, c.want)
		}
	}
	if enc, err := keyIsEncrypted(both); err != nil || !enc {
		t.Errorf("%v %v", enc, err)
	}
}

func TestBulkWriter(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 1, 4095, bulkSize - 1, bulkSize, bulkSize + 1, 3*bulkSize + 5000} {
		data := make([]byte, size)
		if _, err := rand.Read(data); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "f")
		w, err := CreateWhole(path)
		if err != nil {
			t.Fatal(err)
		}
		b := w.Bulk()
		for p := data; len(p) > 0; {
			n := min(len(p), 77_777)
			if _, err := b.Write(p[:n]); err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
		if err := b.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes became %d, or others: %v", size, len(got), err)
		}
	}
}
