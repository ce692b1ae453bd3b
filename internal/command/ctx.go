package command

import (
	"context"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query"
	"github.com/cairndb/cairn/internal/session"
)

// Client is the connection that a request came over, as far as commands need it.
type Client interface {
	ID() int64
	RemoteAddr() string // "127.0.0.1:4321", or a socket path
	LocalAddr() string
	Metadata() bson.Raw                     // the hello's client document, nil before
	SetMetadata(bson.Raw)                   // the first hello only
	NegotiateCompression([]string) []string // what hello offers → what both speak
	Close()                                 // drop the connection without a reply
}

// Request is one command as it came in. Its bytes are valid until Handle returns.
type Request struct {
	Body      bson.Raw
	Sequences []Sequence
	Legacy    bool // came as OP_QUERY
	LegacyDB  string
	ExhaustOK bool // exhaustAllowed: the reply may announce more
	NoReply   bool // moreToCome: the client reads no reply
	Deep      bool // nests deeper than a stored document may: check before storing
}

// Result says what follows the reply.
type Result struct {
	// Next is the request that the server runs by itself after sending this reply
	// (exhaust): nil for none.
	Next bson.Raw
	// Drop closes the connection instead of replying (fail points).
	Drop bool
	// Failed says that the reply is an error.
	Failed bool
}

// Ctx is one running command.
type Ctx struct {
	context.Context
	Request
	Command *Command
	DB      string
	Reply   *bson.Builder // the open reply document; errors replace what was written
	Client  Client
	Generic Generic
	Op      *session.Operation
	Node    *Node
	Result  Result

	start       time.Time
	ns          string // of a command whose value names a collection, but for those of admin
	args        argIndex
	soon        query.Expected // the document that the command will ask for, if it is one by its _id
	statements  []profiled     // of an update or delete, for the profiler
	noProfile   bool           // the profiler was off when the command began
	help        bool           // the client asks what the command does
	skipOK      bool           // the command wrote "ok" itself
	readsOnly   bool           // a command that may write does not: no write concern is waited for
	wroteErrors bool           // counts as failed in metrics though ok is 1
	wrote       WriteResult
	tried       bool     // got as far as the data that it was to change: a failure too waits for the write concern
	failedWCE   bson.Raw // {writeConcernError} of a reply that is an error, nil if there is none
	injectWCE   bson.Raw // fail point: writeConcernError to add
	injectLabel []string // fail point: errorLabels in place of the server's own, nil if not given
	wceCode     mongoerr.Code
	wceLabels   []string // errorLabels of a reply with a writeConcernError
}

// Wrote notes the newest optime of what the command wrote; the reply waits for it
// as the write concern asks.
func (c *Ctx) Wrote(r WriteResult) {
	if r.TS > c.wrote.TS {
		c.wrote = r
	}
}
