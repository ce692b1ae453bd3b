package command

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// checkReadOnly refuses what would change data on a node that serves a moment of the past.
func (c *Ctx) checkReadOnly() error {
	cmd := c.Command
	if !c.Node.ReadOnly.Load() || !cmd.Has(Write) {
		return nil
	}
	if cmd.Has(Read) { // aggregate writes in its last stage only
		var stages []bson.Raw
		if p := c.Arg("pipeline"); p.Type == bson.TypeArray {
			for v := range p.Doc().Values() {
				stages = append(stages, v.Doc())
			}
		}
		if !writesOut(stages) {
			return nil
		}
	}
	return mongoerr.New(mongoerr.IllegalOperation, "Cannot execute a write operation in read-only mode")
}
