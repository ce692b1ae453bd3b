package catalog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/storage"
)

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return b
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return b
}

func splitDocs(b []byte) (docs []bson.Raw) {
	for len(b) > 0 {
		n := binary.LittleEndian.Uint32(b)
		docs = append(docs, bson.Raw(b[:n:n]))
		b = b[n:]
	}
	return docs
}

// TestReplayRealOplog replays what a real 4.2 server wrote: $v:1 updates, capped
// collections, views, $out, convertToCapped, a transaction.
func TestReplayRealOplog(t *testing.T) {
	n := newNode(t)
	all := splitDocs(readFile(t, "oplog-kinds.bson"))
	drops := 0
	for i := len(all) - 1; i >= 0; i-- { // the drops of the clean-up at the end
		name, _ := all[i].Get("o").Doc().First()
		if all[i].Get("op").Str() == "c" && (name == "drop" || name == "dropDatabase") {
			drops++
			continue
		}
		break
	}
	n.replay(all[:len(all)-drops])
	n.checkAll()
	var got bytes.Buffer
	for _, c := range n.Pin().Collections("goplog") {
		fmt.Fprintf(&got, "%s %s", c.NS.Coll, c.Options.Raw)
		for _, ix := range c.Indexes()[1:] {
			fmt.Fprintf(&got, " %s", ix.Spec.Raw)
		}
		fmt.Fprintf(&got, "\n  %s\n", strings.Join(n.docs(c.NS.String()), "\n  "))
	}
	want, err := os.ReadFile("testdata/oplog-kinds.txt")
	if err != nil || strings.TrimSpace(got.String()) != strings.TrimSpace(string(want)) {
		t.Errorf("%v\ngot:\n%s\nwant:\n%s", err, &got, want)
	}
	state := n.logical()
	n.replay(all[:len(all)-drops])
	sameState(t, "second time", n.logical(), state)
	n.replay(all)
	if dbs := n.Pin().Databases(); len(dbs) != 0 {
		t.Errorf("left: %v", dbs)
	}
	f := follower(t, n.entries())
	sameState(t, "follower", f.dump(), n.dump())
}

// TestReplayBusyDump loads a dump that mongodump took under concurrent writes, replays its
// oplog, and compares with what mongorestore --oplogReplay made of it on a real server.
func TestReplayBusyDump(t *testing.T) {
	n := newNode(t)
	log := splitDocs(readFile(t, "busy-oplog.bson"))
	uuids := map[string]bson.UUID{}
	for _, d := range log {
		if u, ok := d.Get("ui").UUID(); ok {
			uuids[d.Get("ns").Str()] = u
		}
	}
	for name, file := range map[string]string{"busy.c": "busy-c.bson.gz", "busy.d": "busy-d.bson"} {
		_, err := n.CreateWithUUID(ctx, nss(name), bson.Empty, uuids[name])
		n.must(err)
		docs := splitDocs(readFile(t, file))
		for len(docs) > 0 {
			k := min(len(docs), 500)
			n.must(n.insert(name, docs[:k]...))
			docs = docs[k:]
		}
	}
	_, err := n.CreateIndexes(ctx, nss("busy.c"), []bson.Raw{bson.D("key", bson.D("k", 1), "name", "k_1")})
	n.must(err)
	n.replay(log)
	n.checkAll()
	for range 2 {
		compareState(t, n, readFile(t, "busy-state.jsonl.gz"))
		n.replay(log)
	}
}

func compareState(t *testing.T, n *node, state []byte) {
	t.Helper()
	want := map[string]int{}
	sc := bufio.NewScanner(bytes.NewReader(state))
	for sc.Scan() {
		d, err := extjson.Unmarshal(sc.Bytes())
		n.must(err)
		want[d.Get("ns").Str()+d.Get("doc").String()]++
	}
	for _, ns := range []string{"busy.c", "busy.d"} {
		c := n.Pin().Lookup(nss(ns))
		cur := c.store.Cursor(n.eng, storage.Forward)
		for cur.Next() {
			key := ns + bson.Raw(cur.Value()).String()
			if want[key]--; want[key] < 0 {
				t.Errorf("%s is too much (%s)", key, hex.EncodeToString(cur.Value()[:16]))
			}
		}
		n.must(cur.Close())
	}
	for k, v := range want {
		if v > 0 {
			t.Errorf("%s is missing", k)
		}
	}
}
