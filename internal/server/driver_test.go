package server

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	driverbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/wire"
)

// greeter is the least that a driver needs, with a streaming hello.
type greeter struct {
	awaited atomic.Int64
	docs    atomic.Int64
	process bson.ObjectID
}

func (g *greeter) Handle(ctx context.Context, c *Conn, req *wire.Request, out *wire.Reply) error {
	switch req.Command() {
	case "hello", "isMaster", "ismaster":
		return g.hello(ctx, c, req, out)
	case "insert":
		for i := range req.Sequences {
			g.docs.Add(int64(req.Sequences[i].Len()))
		}
		out.Doc().Int32("n", int32(req.Sequences[0].Len())).Double("ok", 1)
	case "ping", "endSessions":
		out.Doc().Double("ok", 1)
	default:
		return mongoerr.New(mongoerr.CommandNotFound, "no such command: '%s'", req.Command())
	}
	return nil
}

func (g *greeter) hello(ctx context.Context, c *Conn, req *wire.Request, out *wire.Reply) error {
	if client := req.Body.Get("client").Doc(); client != nil {
		c.SetMetadata(client)
	}
	if req.Body.Has("topologyVersion") {
		g.awaited.Add(1)
		wait, cancel := context.WithTimeout(ctx, 20*time.Millisecond) // a heartbeat of maxAwaitTimeMS
		defer cancel()
		<-wait.Done()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	b := out.Doc()
	b.Bool("ismaster", true).Bool("isWritablePrimary", true).Bool("helloOk", true)
	b.Doc("topologyVersion").ObjectID("processId", g.process).Int64("counter", 0).End()
	b.Int32("maxBsonObjectSize", 16<<20).Int32("maxMessageSizeBytes", wire.MaxMessageSize).Int32("maxWriteBatchSize", 100_000)
	b.Int32("logicalSessionTimeoutMinutes", 30).Int64("connectionId", c.ID()).Int32("minWireVersion", 0).Int32("maxWireVersion", 25)
	var offered []string
	for v := range req.Body.Get("compression").Doc().Values() {
		offered = append(offered, v.Str())
	}
	if agreed := c.NegotiateCompression(offered); len(agreed) > 0 {
		b.Any("compression", agreed)
	}
	b.Double("ok", 1)
	if req.Body.Has("topologyVersion") {
		out.Continue(nil)
	}
	return nil
}

func TestOfficialDriver(t *testing.T) {
	for _, compressor := range []string{"", "snappy", "zlib", "zstd"} {
		t.Run("compressor "+compressor, func(t *testing.T) {
			g := &greeter{}
			s := start(t, Config{Handler: g})
			uri := "mongodb://" + s.Addrs()[0] + "/?appName=cairn-test&heartbeatFrequencyMS=500&serverMonitoringMode=stream"
			opts := options.Client().ApplyURI(uri)
			if compressor != "" {
				opts.SetCompressors([]string{compressor})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			client, err := mongo.Connect(opts)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Disconnect(context.Background())
			if err := client.Ping(ctx, nil); err != nil {
				t.Fatal(err)
			}
			docs := make([]any, 500)
			for i := range docs {
				docs[i] = driverbson.D{{Key: "_id", Value: i}, {Key: "s", Value: fmt.Sprint("text ", i)}}
			}
			if _, err := client.Database("a").Collection("c").InsertMany(ctx, docs); err != nil || g.docs.Load() != 500 {
				t.Fatal(err, g.docs.Load())
			}
			err = client.Database("a").RunCommand(ctx, driverbson.D{{Key: "nope", Value: 1}}).Err()
			if ce, ok := err.(mongo.CommandError); !ok || ce.Code != 59 || ce.Name != "CommandNotFound" {
				t.Fatal(err)
			}
			named, spoken := false, false
			s.EachConn(func(c *Conn) bool {
				named = named || c.AppName() == "cairn-test"
				spoken = spoken || len(c.Compressors()) == 1 && c.Compressors()[0] == compressor
				return true
			})
			if !named || spoken != (compressor != "") {
				t.Fatalf("named %v, compressed %v", named, spoken)
			}
			for g.awaited.Load() < 4 { // the monitor's stream goes on by itself
				select {
				case <-ctx.Done():
					t.Fatalf("%d streamed hellos", g.awaited.Load())
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
}
