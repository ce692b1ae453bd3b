package catalog

import (
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// checkPartial refuses filters that MongoDB does not take for a partial index.
func checkPartial(n match.Node) error {
	bad := func() error {
		return mongoerr.New(mongoerr.CannotCreateIndex, "Expression not supported in partial index: %s", match.Serialize(n))
	}
	kids := func(list []match.Node) error {
		for _, k := range list {
			if err := checkPartial(k); err != nil {
				return err
			}
		}
		return nil
	}
	switch n := n.(type) {
	case *match.And:
		return kids(n.Kids)
	case *match.Or:
		return kids(n.Kids)
	case *match.Comparison, *match.In, *match.TypeOp, *match.Exists, *match.AlwaysTrue:
		return nil
	default:
		return bad()
	}
}
