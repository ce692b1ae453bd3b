package query

import (
	"strings"

	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/pipeline"
)

// inPlan says of an error that it came while a command's plan ran, as MongoDB 8.0 does: during
// is how the text begins. A write conflict is tried again and nobody's to read, and what the
// planner refuses came before the plan.
func inPlan(during string, err error) error {
	e, ok := mongoerr.As(err)
	if !ok || e.Code == mongoerr.WriteConflict || strings.HasPrefix(e.Message, "error processing query: ") {
		return err
	}
	in := *e
	in.Message = during + " :: caused by :: " + e.Message
	return &in
}

// firstBatchInPlan is inPlan for the first batch of a cursor on ns that a command opens.
func firstBatchInPlan(command string, ns Namespace, err error) error {
	switch command {
	case "find":
		return inPlan("Executor error during find command: "+ns.String(), err)
	case "aggregate":
		if mongoerr.Is(err, pipeline.NoUniqueIndex) { // comes of the stage, before the plan runs
			return err
		}
		return inPlan("Executor error during aggregate command on namespace: "+ns.String(), err)
	}
	return err
}

// cursorNS is the namespace of the cursor.
func (r *AggregateRequest) cursorNS() Namespace {
	ns := r.NS
	if ns.Coll == "" {
		ns.Coll = "$cmd.aggregate"
	}
	return ns
}
