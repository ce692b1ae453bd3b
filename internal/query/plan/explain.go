package plan

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
)

// memLimit is what a blocking stage holds in memory before it spills, as explain says it.
const memLimit = 100 << 20

// AppendPlan appends the fields of a solution (winningPlan or an element of
// rejectedPlans) to the open document of b.
func AppendPlan(b *bson.Builder, s *Solution) {
	b.Bool("isCached", s.Cached)
	appendNode(b, s.Root, false)
}

// AppendStages appends the fields of executionStages, with what the execution counted.
func AppendStages(b *bson.Builder, root *Node) {
	appendNode(b, root, true)
}

func appendNode(b *bson.Builder, n *Node, stats bool) {
	var projected bson.Raw
	if n.Stage == ProjectionSimple && n.Kids[0].Stage == Express {
		n, projected = n.Kids[0], n.ProjSpec // an EXPRESS stage projects by itself
	}
	st := n.Stats
	if st == nil {
		st = &Stats{}
	}
	b.Str("stage", string(n.Stage))
	if n.Filter != nil {
		b.AppendDoc("filter", match.Serialize(n.Filter))
	}
	if stats {
		b.IntOrLong("nReturned", st.Advanced).IntOrLong("executionTimeMillisEstimate", st.Millis)
		b.IntOrLong("works", st.Works).IntOrLong("advanced", st.Advanced).IntOrLong("needTime", st.NeedTime)
		b.IntOrLong("needYield", st.NeedYield).IntOrLong("saveState", st.Saves).IntOrLong("restoreState", st.Restores)
		eof := int32(0)
		if st.IsEOF {
			eof = 1
		}
		b.Int32("isEOF", eof)
	}
	n.appendFields(b)
	if projected != nil {
		b.Str("projection", Text(projected.Value())).Bool("projectionCovered", projected.Len() == 1 && projected.Get("_id").Truthy())
	}
	if stats {
		n.appendStats(b, st)
	}
	switch len(n.Kids) {
	case 0:
	case 1:
		if n.Stage != Or && n.Stage != SortMerge {
			b.Doc("inputStage")
			appendNode(b, n.Kids[0], stats)
			b.End()
			return
		}
		fallthrough
	default:
		b.Array("inputStages")
		for _, k := range n.Kids {
			b.Doc("")
			appendNode(b, k, stats)
			b.End()
		}
		b.End()
	}
}

// appendFields appends what the plan says of n.
func (n *Node) appendFields(b *bson.Builder) {
	switch n.Stage {
	case CollScan:
		n.appendRecordRange(b)
		b.Str("direction", n.direction())
		if n.Tailable {
			b.Bool("tailable", true)
		}
	case Express:
		b.Str("keyPattern", Text(n.Index.KeyPattern.Value())).Str("indexName", n.Index.Name)
	case IxScan, DistinctScan, CountScan:
		appendIndex(b, n.Index)
		if n.Stage == CountScan {
			n.appendCountBounds(b)
			return
		}
		b.Str("direction", n.direction())
		if n.MinMax == nil {
			b.Doc("indexBounds")
			n.appendBounds(b)
			b.End()
		} else {
			n.appendKeyRange(b)
		}
	case Sort:
		b.AppendDoc("sortPattern", n.SortSpec).IntOrLong("memLimit", memLimit)
		if n.LimitAmount > 0 {
			b.IntOrLong("limitAmount", n.LimitAmount)
		}
		b.Str("type", "simple")
	case SortMerge:
		b.AppendDoc("sortPattern", n.SortSpec)
	case Limit:
		b.IntOrLong("limitAmount", n.LimitAmount)
	case Skip:
		b.IntOrLong("skipAmount", n.LimitAmount)
	case ProjectionSimple, ProjectionCovered, ProjectionDefault:
		b.AppendDoc("transformBy", n.ProjSpec)
	}
}

func (n *Node) appendRecordRange(b *bson.Builder) {
	if !n.ShowRange {
		return
	}
	if n.HasMin {
		b.Timestamp("minRecord", bson.Timestamp(n.MinRecord))
	}
	if n.HasMax {
		b.Timestamp("maxRecord", bson.Timestamp(n.MaxRecord))
	}
}

func (n *Node) direction() string {
	if n.Backward {
		return "backward"
	}
	return "forward"
}

func appendIndex(b *bson.Builder, ix *Index) {
	b.AppendDoc("keyPattern", ix.KeyPattern).Str("indexName", ix.Name)
	if ix.Collation != nil {
		b.AppendDoc("collation", ix.Collation.Spec())
	}
	b.Bool("isMultiKey", ix.Multikey)
	b.Doc("multiKeyPaths")
	for i, p := range ix.Parts {
		b.Array(p.Path)
		for c := range components(p.Path) {
			if ix.multikeyBetween(i, c, c+1) {
				b.Str("", firstComponents(p.Path, c+1))
			}
		}
		b.End()
	}
	b.End()
	b.Bool("isUnique", ix.Unique || ix.IsID).Bool("isSparse", ix.Sparse).Bool("isPartial", ix.Partial != nil)
	b.Int32("indexVersion", 2)
}

// shown is an interval as people see it.
func (ix *Index) shown(iv Interval) Interval {
	iv.Lo, iv.Hi = ix.shownValue(iv.Lo), ix.shownValue(iv.Hi)
	return iv
}

// shownValue is a value of a key as people see it.
func (ix *Index) shownValue(v bson.Value) bson.Value {
	if ix.Collation == nil {
		return v
	}
	return collate.Shown(v)
}

func firstComponents(path string, n int) string {
	for i := range path {
		if path[i] == '.' {
			if n--; n == 0 {
				return path[:i]
			}
		}
	}
	return path
}

// appendBounds appends the bounds part by part, in the order that the scan meets them.
func (n *Node) appendBounds(b *bson.Builder) {
	for i, p := range n.Index.Parts {
		b.Array(p.Path)
		ivs := n.Bounds[i]
		rev := p.Desc != n.Backward
		for j := range ivs {
			if rev {
				b.Str("", n.Index.shown(ivs[len(ivs)-1-j].reversed()).String())
			} else {
				b.Str("", n.Index.shown(ivs[j]).String())
			}
		}
		b.End()
	}
}

func (n *Node) appendKeyRange(b *bson.Builder) {
	b.Doc("indexBounds")
	side := func(name string, vals []bson.Value, open bson.Value) {
		b.Doc(name)
		for i, p := range n.Index.Parts {
			v := open
			if vals != nil {
				v = vals[i]
			} else if p.Desc {
				v = flip(open)
			}
			b.Append(p.Path, n.Index.shownValue(v))
		}
		b.End()
	}
	side("startKey", n.MinMax.Min, minKey)
	side("endKey", n.MinMax.Max, maxKey)
	b.End()
}

func flip(v bson.Value) bson.Value {
	if v.Type == bson.TypeMinKey {
		return maxKey
	}
	return minKey
}

// appendCountBounds appends the bounds of a COUNT_SCAN, which are one range of keys.
func (n *Node) appendCountBounds(b *bson.Builder) {
	loInc, hiInc := true, true
	b.Doc("indexBounds").Doc("startKey")
	for i, p := range n.Index.Parts {
		iv := n.Bounds[i][0]
		if p.Desc {
			iv = iv.reversed()
		}
		b.Append(p.Path, n.Index.shownValue(iv.Lo))
		loInc = loInc && iv.LoInc
	}
	b.End().Bool("startKeyInclusive", loInc).Doc("endKey")
	for i, p := range n.Index.Parts {
		iv := n.Bounds[i][0]
		if p.Desc {
			iv = iv.reversed()
		}
		b.Append(p.Path, n.Index.shownValue(iv.Hi))
		hiInc = hiInc && iv.HiInc
	}
	b.End().Bool("endKeyInclusive", hiInc).End()
}

// appendStats appends what only an execution knows.
func (n *Node) appendStats(b *bson.Builder, st *Stats) {
	switch n.Stage {
	case CollScan:
		b.IntOrLong("docsExamined", st.DocsExamined)
	case Fetch:
		b.IntOrLong("docsExamined", st.DocsExamined).IntOrLong("alreadyHasObj", st.NCount)
	case Express:
		b.IntOrLong("keysExamined", st.KeysExamined).IntOrLong("docsExamined", st.DocsExamined)
	case IxScan:
		b.IntOrLong("keysExamined", st.KeysExamined).IntOrLong("seeks", st.Seeks)
		b.IntOrLong("dupsTested", st.DupsTested).IntOrLong("dupsDropped", st.DupsDropped)
	case CountScan, DistinctScan:
		b.IntOrLong("keysExamined", st.KeysExamined)
	case Or, SortMerge:
		b.IntOrLong("dupsTested", st.DupsTested).IntOrLong("dupsDropped", st.DupsDropped)
	case Sort:
		b.IntOrLong("totalDataSizeSorted", st.SortedBytes).Bool("usedDisk", st.Spills > 0)
		b.IntOrLong("spills", st.Spills).IntOrLong("spilledDataStorageSize", st.SpilledBytes)
	case Count, RecordCount:
		b.IntOrLong("nCounted", st.NCount).IntOrLong("nSkipped", n.CountSkip)
	case Update:
		b.IntOrLong("nMatched", st.NMatched).IntOrLong("nWouldModify", st.NModified).IntOrLong("nWouldUpsert", st.NUpserted)
	case Delete:
		b.IntOrLong("nWouldDelete", st.NDeleted)
	}
}
