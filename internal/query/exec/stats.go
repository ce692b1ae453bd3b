package exec

import "github.com/cairndb/cairn/internal/query/plan"

// FinishStats derives works and needTime of all nodes from what the leaves counted: a
// stage works once for each time that it asks its kid, which costs nothing to count so.
func FinishStats(n *plan.Node, millis int64) {
	var below int64
	for _, k := range n.Kids {
		FinishStats(k, millis)
		below += k.Stats.Works
	}
	st := n.Stats
	if st == nil {
		st = &plan.Stats{}
		n.Stats = st
	}
	end := int64(0)
	if st.IsEOF {
		end = 1
	}
	switch n.Stage {
	case plan.CollScan:
		st.Works = st.DocsExamined + end
	case plan.IxScan, plan.CountScan, plan.DistinctScan:
		st.Works = st.KeysExamined + end
	case plan.Express:
		st.Works = st.Advanced + end
	case plan.Sort:
		st.Works = below + st.Advanced
		if end > 0 {
			st.Works = max(st.Works, 1)
		}
	case plan.Limit:
		st.Works = below
		if end > 0 && !n.Kids[0].Stats.IsEOF {
			st.Works++
		}
	case plan.EOF, plan.RecordCount:
		st.Works = st.Advanced + end
	default:
		st.Works = below
		if below == 0 {
			st.Works = st.Advanced + end
		}
	}
	st.NeedTime = max(st.Works-st.Advanced-end, 0)
	st.Millis = millis
}

// Examined sums what all nodes read.
func Examined(n *plan.Node) (keys, docs int64) {
	n.Walk(func(k *plan.Node) {
		if k.Stats != nil {
			keys += k.Stats.KeysExamined
			docs += k.Stats.DocsExamined
		}
	})
	return keys, docs
}
