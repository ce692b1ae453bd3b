package replay

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/bson"
)

// writes are the commands by which a restore changes its target.
var writes = map[string]bool{"applyOps": true, "insert": true, "update": true, "delete": true, "bulkWrite": true, "create": true, "drop": true,
	"dropDatabase": true, "renameCollection": true, "convertToCapped": true, "collMod": true, "createIndexes": true, "dropIndexes": true}

// AwaitEarlier waits until the target has ended what an earlier run of this program, which was
// killed, had asked for: a server goes on with a command whose client is gone, and what it then writes
// late would be older than what this run has replayed. Such commands are those of the same
// application name from the same host. Who may not see the operations of others does not wait. say
// is told when there is something to wait for; the error after limit names the operations.
func AwaitEarlier(ctx context.Context, client *mongo.Client, limit time.Duration, say func(format string, args ...any)) error {
	mark := bson.NewUUID().String()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline, told := time.Now().Add(limit), false; ; {
		reply, err := client.Database("admin").RunCommand(ctx, raw(bson.D("currentOp", 1, "active", true, "comment", mark))).Raw()
		if err != nil {
			return ctx.Err() // not allowed, or not known: nothing can be told
		}
		ops := earlier(bson.Raw(reply), mark)
		switch {
		case len(ops) == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("the target still works for an earlier run of this restore, after %v (operations %s): wait, or end them with db.killOp, and go on then", limit, strings.Join(ops, ", "))
		case !told:
			say("waiting until the target has ended what an earlier run asked for (operations %s)", strings.Join(ops, ", "))
			told = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// earlier returns the opids of writes by the application that asks, as currentOp's reply shows them.
func earlier(reply bson.Raw, mark string) (opids []string) {
	host := func(op bson.Raw) string {
		if h, _, err := net.SplitHostPort(op.Get("client").Str()); err == nil {
			return h
		}
		return op.Get("client").Str()
	}
	var app, from string
	for v := range reply.Get("inprog").Doc().Values() {
		if op := v.Doc(); op.Path("command.comment").Str() == mark {
			app, from = op.Get("appName").Str(), host(op)
		}
	}
	if app == "" {
		return nil
	}
	for v := range reply.Get("inprog").Doc().Values() {
		op := v.Doc()
		if op.Get("appName").Str() != app || host(op) != from {
			continue
		}
		name, text := op.Get("command").Doc().First()
		if name == "$truncated" { // a long command, as text
			name, _, _ = strings.Cut(strings.TrimLeft(text.Str(), `{ "`), ":")
			name = strings.Trim(name, ` "`)
		}
		if writes[name] {
			opids = append(opids, op.Get("opid").String())
		}
	}
	return opids
}
