package exec

import (
	"github.com/cairndb/cairn/internal/query/plan"
)

// Count runs a plan to its end and returns how many rows it gave. n is its COUNT node,
// whose kid x runs; it takes skip and limit from there (limit 0: none).
func Count(x *Exec, n *plan.Node) (int64, error) {
	defer x.Close()
	n.Stats = &plan.Stats{}
	var row Row
	var total int64
	end := int64(-1)
	if n.CountLimit > 0 {
		end = n.CountSkip + n.CountLimit
	}
	for total != end {
		ok, err := x.Next(&row)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		if total++; total%slice == 0 {
			if err := x.Tick(); err != nil {
				return 0, err
			}
		}
	}
	n.Stats.IsEOF = true
	n.Stats.NCount = max(total-n.CountSkip, 0)
	return n.Stats.NCount, nil
}
