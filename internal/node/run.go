package node

import (
	"context"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/command"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Run runs one command inside the process, without a socket: for tests and for the
// programs that embed a node. A reply with ok: 0 is an error.
func (n *Node) Run(ctx context.Context, db string, cmd bson.Raw) (bson.Raw, error) {
	body := cmd
	if !cmd.Has("$db") {
		body = bson.NewBuilder(nil).AppendElems(cmd).Str("$db", db).Finish()
	}
	b := bson.NewBuilder(nil)
	res := n.cmds.Handle(ctx, insideClient{}, command.Request{Body: body}, b)
	if res.Drop {
		return nil, mongoerr.New(mongoerr.HostUnreachable, "the connection was closed")
	}
	reply := b.Finish()
	if ok, _ := reply.Get("ok").AsFloat64(); ok != 1 {
		code, _ := reply.Get("code").AsInt64()
		return reply, mongoerr.New(mongoerr.Code(code), "%s", strings.Clone(reply.Get("errmsg").Str()))
	}
	return reply, nil
}

// insideClient is the connection of commands that come from inside the process.
type insideClient struct{}

func (insideClient) ID() int64                              { return 0 }
func (insideClient) RemoteAddr() string                     { return "localhost:0" }
func (insideClient) LocalAddr() string                      { return "localhost:0" }
func (insideClient) Metadata() bson.Raw                     { return nil }
func (insideClient) SetMetadata(bson.Raw)                   {}
func (insideClient) NegotiateCompression([]string) []string { return nil }
func (insideClient) Close()                                 {}

func cutParameter(p string) (name, value string, ok bool) { return strings.Cut(p, "=") }
