package node

import "github.com/cairndb/cairn/internal/command"

// MongoVersion is the MongoDB version whose behaviour clients may expect.
const MongoVersion = "8.0.4"

// NewLogRing returns the buffer of newest log lines that getLog shows; give it to
// the log handler as a writer and to Config as LogSink.
func NewLogRing() *command.LogRing { return command.NewLogRing(1024) }
