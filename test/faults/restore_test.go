package faults

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/backup/restore"
	"github.com/cairndb/cairn/internal/backup/tool"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/node"
)

// TestRestoreOntoFullDisk restores more than the server's disk takes: the tool ends with the
// server's words, counts what was acknowledged, and all of that is there afterwards.
func TestRestoreOntoFullDisk(t *testing.T) {
	const docs = 12_000
	var data bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same data every time
	pad := make([]byte, 1000)
	for i := range docs {
		for k := range pad {
			pad[k] = byte('a' + r.IntN(26)) // nothing that a disk would see shrink
		}
		data.Write(bson.D("_id", i, "pad", string(pad)))
	}
	mem := vfs.NewCrashableMem()
	d := newSmallDisk(mem, 9_000_000)
	c := config(d)
	c.NoTCP, c.AnyPort = false, true
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx := limit(t)
	o, err := restore.ParseOptions(tool.Config{Version: "test"}, false, []string{"--uri", n.URI(), "-d", "d", "-c", "c", "-"})
	if err != nil {
		t.Fatal(err)
	}
	o.Stdin = &data
	client, err := o.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	server, err := tool.Facts(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	res, err := restore.New(o, client, server, tool.NewLog(&log, 0), nil).Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), "d.c") {
		t.Errorf("the restore ended with %v\n%s", err, &log)
	}
	if res.Successes == 0 || res.Successes >= docs || res.Failures != 0 {
		t.Errorf("counts: %+v", res)
	}
	_ = client.Disconnect(context.WithoutCancel(ctx))
	if err := n.Close(); err == nil {
		t.Error("close says nothing of the failure")
	}
	n = start(t, mem)
	defer n.Close()
	got, err := all(ctx, n, "d", "c")
	if err != nil || int64(len(got)) < res.Successes {
		t.Errorf("%d documents are said to be in, there are %d, %v", res.Successes, len(got), err)
	}
}
