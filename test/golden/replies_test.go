package golden

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/node"
)

// startNode runs a replica set of one member in memory.
func startNode(t *testing.T) *node.Node {
	t.Helper()
	n, err := node.Start(context.Background(), node.Config{
		InMemory: true, Embedded: true, AnyPort: true, NoUnixSocket: true, ReplSet: "rs0", ReplSetAutoInitiate: true, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// run returns the reply, also of a command that failed.
func run(t *testing.T, n *node.Node, db string, cmd bson.Raw) bson.Raw {
	t.Helper()
	reply, err := n.Run(context.Background(), db, cmd)
	if reply == nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return reply
}

// lines reads a file with a document in extended JSON a line.
func lines(t *testing.T, file string) (out []bson.Raw) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		d, err := extjson.Unmarshal(s.Bytes())
		if err != nil {
			t.Fatalf("%s:%d: %v", file, len(out)+1, err)
		}
		out = append(out, d)
	}
	return out
}

type command struct {
	db  string
	cmd bson.Raw
}

func (c command) String() string {
	s := c.cmd.String()
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return fmt.Sprintf("%s %s", c.db, s)
}

// undo are commands to run after a line where the two servers, rightly, did different things,
// so that the lines behind it start from the same data.
var undo = map[int]bson.Raw{
	// 8.0 takes documents with fields like $a; all other _ids are numbers.
	25: bson.D("delete", "a", "deletes", bson.A(bson.D("q", bson.D("_id", bson.D("$type", "objectId")), "limit", 0))),
}

func TestReplies(t *testing.T) {
	const file = "testdata/differences.txt"
	table := readDifferences(t, file)
	n := startNode(t)
	for i, l := range lines(t, "testdata/replies.jsonl") {
		c := command{l.Get("db").Str(), l.Get("cmd").Doc()}
		have := run(t, n, c.db, c.cmd)
		judge(t, table, i+1, c, compare("", withoutKeyGenerator(l.Get("reply").Doc()), have))
		if cmd := undo[i+1]; cmd != nil {
			run(t, n, c.db, cmd)
		}
	}
	unused(t, file, table)
}

// withoutKeyGenerator takes the SORT_KEY_GENERATOR stages out of an explain: since 4.4 SORT does
// their work.
func withoutKeyGenerator(d bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	for key, v := range d.Elems() {
		if kid := v.Doc(); key == "inputStage" && kid.Get("stage").Str() == "SORT_KEY_GENERATOR" {
			v = kid.Get("inputStage")
		}
		switch v.Type {
		case bson.TypeDocument:
			b.AppendDoc(key, withoutKeyGenerator(v.Doc()))
		case bson.TypeArray:
			b.Append(key, bson.Value{Type: bson.TypeArray, Data: withoutKeyGenerator(bson.Raw(v.Data))})
		default:
			b.Append(key, v)
		}
	}
	return b.Finish()
}
