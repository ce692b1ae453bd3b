package repo

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// lines is the stream "oplog" of the repository in testdata/version1.
func lines() []byte {
	var b []byte
	for i := range 4000 {
		b = fmt.Appendf(b, "line %d of a stream, %x\n", i, i*i)
	}
	return b
}

// A repository that the first version of the format wrote is read, written and swept, and what is
// added to it is of that version, which a program that knows no other can read.
func TestVersion1(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	check(t, os.CopyFS(dir, os.DirFS("testdata/version1")))
	r := must(Open(ctx, dir, OpenOptions{fast()}))(t)
	defer func() { check(t, r.Close()) }()
	old := must(r.Manifests(ctx))(t)
	if len(old) != 1 || r.marker.Version != 1 {
		t.Fatalf("version %d, %d manifests", r.marker.Version, len(old))
	}
	streams := map[string][]byte{"oplog": lines(), "small": []byte("small")}
	wantStreams(t, r, old[0], streams)

	again := map[string][]byte{"log": lines(), "log 2": noise(1, 600<<10)}
	m := backup(t, r, again)
	for _, ref := range m.Streams {
		if ref.Log || ref.SHA256 == (ID{}) {
			t.Errorf("%+v is not of version 1", ref)
		}
	}
	if known := m.Written.Chunks - m.Written.NewChunks; known < m.Streams[0].Chunks {
		t.Errorf("%+v: the content of version 1 was not found again", m.Written)
	}
	sweepAll(t, r, SweepOptions{})
	_, err := r.Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) { t.Errorf("finding %s", f) })
	check(t, err)
	wantStreams(t, r, old[0], streams)
	wantStreams(t, r, m, again)
}

// A log's pieces are not named by their contents, survive being moved to another pack, and are
// found again when an interrupted backup is begun anew.
func TestLog(t *testing.T) {
	ctx := context.Background()
	for _, change := range []func(*InitOptions){func(*InitOptions) {}, encrypted} {
		r := newRepo(t, change)
		streams := map[string][]byte{"log": append(noise(1, 300<<10), lines()...), "s": noise(2, 2<<20)}
		a := backup(t, r, streams)
		if ref := a.Streams[0]; !ref.Log || ref.SHA256 != (ID{}) || ref.Chunks != 2 {
			t.Fatalf("%+v", ref)
		}
		b := backup(t, r, map[string][]byte{"log": streams["log"]})
		if b.Written.NewChunks != 0 {
			t.Fatalf("the same log again stored %+v", b.Written)
		}
		if st := sweepAll(t, r, SweepOptions{Repack: 0.01}, a.ID); st.Repacked == 0 {
			t.Fatalf("%+v", st)
		}
		n := reopen(t, r)
		wantStreams(t, n, b, map[string][]byte{"log": streams["log"]})
		_, err := n.Verify(ctx, VerifyOptions{Percent: 100}, func(f Finding) { t.Errorf("finding %s", f) })
		check(t, err)
		rd := must(n.OpenAt(ctx, b.Streams[0], logChunk+5))(t)
		if got := must(readAll(rd))(t); string(got) != string(streams["log"][logChunk+5:]) {
			t.Fatalf("from %d: %d bytes", logChunk+5, len(got))
		}
		// Whoever stores a piece's stored bytes as a content gets another chunk.
		piece := &block{raw: streams["log"][:logChunk], piece: &logPiece{}, chunks: []chunkEntry{{size: logChunk}}}
		content := piece.encode(r.codec, nil)
		if len(content) < logChunk { // it is noise, and was kept as it is
			t.Fatalf("%d bytes", len(content))
		}
		c := backup(t, n, map[string][]byte{"s": content})
		wantStreams(t, reopen(t, r), c, map[string][]byte{"s": content})
	}
}
