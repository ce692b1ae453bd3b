package wire

import (
	"bytes"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

const legacyHelp = "The client driver may require an upgrade. For more details see https://dochub.mongodb.org/core/legacy-opcode-removal"

// parseQuery parses OP_QUERY behind the header: flags, namespace, skip, limit, the
// query and perhaps a projection. Only the handshake of drivers older than OP_MSG,
// which old and new drivers still begin with, is served.
func (r *Request) parseQuery(b []byte) error {
	r.Legacy = true
	if len(b) < 4 {
		return frameErrorf("OP_QUERY of %d bytes", len(b))
	}
	b = b[4:]
	end := bytes.IndexByte(b, 0)
	if end < 0 || len(b) < end+1+8 {
		return frameErrorf("OP_QUERY without a namespace")
	}
	ns := string(b[:end])
	b = b[end+1+8:]
	size, ok := sizePrefix(b)
	if !ok {
		return frameErrorf("OP_QUERY's query overruns the message")
	}
	query := bson.Raw(b[:size:size])
	if rest := b[size:]; len(rest) > 0 {
		if n, ok := sizePrefix(rest); !ok || n != len(rest) {
			return frameErrorf("%d bytes behind OP_QUERY's query", len(rest))
		}
	}
	if err := r.validateDoc(query); err != nil {
		return err
	}
	db, isCommand := strings.CutSuffix(ns, ".$cmd")
	if !isCommand {
		return unsupportedOp(OpQuery)
	}
	name, v := query.First()
	if name == "$query" || name == "query" { // wrapped, to carry $readPreference
		if d := v.Doc(); d != nil && v.Type == bson.TypeDocument {
			query = d
		}
	}
	r.DB, r.Body = db, query
	switch name := r.Command(); name {
	case "hello", "isMaster", "ismaster":
		return nil
	default:
		return mongoerr.New(mongoerr.UnsupportedOpQueryCommand, "Unsupported OP_QUERY command: %s. %s", name, legacyHelp)
	}
}

func unsupportedOp(op OpCode) error {
	return mongoerr.New(mongoerr.UnsupportedOpQueryCommand, "%s is no longer supported. %s", op, legacyHelp)
}
