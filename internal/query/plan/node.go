package plan

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/project"
	"github.com/cairndb/cairn/internal/eval/sortkey"
)

// Stage names a kind of node, in MongoDB's words.
type Stage string

// The stages.
const (
	EOF               Stage = "EOF"
	CollScan          Stage = "COLLSCAN"
	IxScan            Stage = "IXSCAN"
	Express           Stage = "EXPRESS_IXSCAN"
	Fetch             Stage = "FETCH"
	Or                Stage = "OR"
	SortMerge         Stage = "SORT_MERGE"
	Sort              Stage = "SORT"
	Skip              Stage = "SKIP"
	Limit             Stage = "LIMIT"
	ProjectionSimple  Stage = "PROJECTION_SIMPLE"
	ProjectionCovered Stage = "PROJECTION_COVERED"
	ProjectionDefault Stage = "PROJECTION_DEFAULT"
	ReturnKey         Stage = "RETURN_KEY"
	Subplan           Stage = "SUBPLAN"
	Count             Stage = "COUNT"
	CountScan         Stage = "COUNT_SCAN"
	RecordCount       Stage = "RECORD_STORE_FAST_COUNT"
	DistinctScan      Stage = "DISTINCT_SCAN"
	Update            Stage = "UPDATE"
	Delete            Stage = "DELETE"
)

// Node is one node of a plan. Which fields matter depends on the stage.
type Node struct {
	Stage  Stage
	Kids   []*Node
	Filter match.Node // nil: everything

	// COLLSCAN
	Backward             bool  // IXSCAN too
	MinRecord, MaxRecord int64 // bounds on the record id if HasMin, HasMax; inclusive
	HasMin, HasMax       bool
	Tailable             bool
	ShowRange            bool // explain shows minRecord and maxRecord

	// IXSCAN, COUNT_SCAN, DISTINCT_SCAN, EXPRESS
	Index      *Index
	Bounds     []Intervals // one for each part, ascending
	Dedup      bool
	MinMax     *KeyRange // of min() and max(), instead of Bounds
	DistinctAt int       // DISTINCT_SCAN: number of the part whose values are wanted

	// SORT, SORT_MERGE
	SortPattern *sortkey.Pattern
	SortSpec    bson.Raw
	LimitAmount int64 // SORT: 0 none; LIMIT and SKIP: the number

	// PROJECTION_*
	Projection *project.Projection
	ProjSpec   bson.Raw

	// COUNT
	CountSkip, CountLimit int64

	Upsert bool
	Multi  bool

	Stats *Stats // set by an execution
}

// KeyRange is the range of index keys of min() and max(): values part by part.
type KeyRange struct {
	Min, Max []bson.Value // nil: open
}

// Stats are what an execution counted at one node.
type Stats struct {
	Works, Advanced, NeedTime   int64
	NeedYield, Saves, Restores  int64
	IsEOF                       bool
	Millis                      int64
	KeysExamined, DocsExamined  int64
	Seeks                       int64
	DupsTested, DupsDropped     int64
	Spills, SpilledBytes        int64
	SortedBytes                 int64
	NMatched, NModified, NCount int64
	NUpserted, NDeleted         int64
}

// Solution is one plan for a query.
type Solution struct {
	Root *Node
	// HasFetch and HasSort break ties between plans; ReadsIndex names the indexes.
	HasFetch, HasSort bool
	// Cached says that the plan came out of the plan cache.
	Cached bool
	// Works is what a trial spent on it until it was chosen.
	Works int64
}

// Summary is the plan in one line: "IXSCAN { a: 1 }", for logs and the profiler.
func (s *Solution) Summary() string {
	if s == nil || s.Root == nil {
		return "EOF"
	}
	out := ""
	var walk func(n *Node)
	walk = func(n *Node) {
		if len(n.Kids) == 0 {
			if out != "" {
				out += ", "
			}
			out += string(n.Stage)
			if n.Index != nil && n.Stage != Express {
				out += " " + Text(n.Index.KeyPattern.Value())
			}
		}
		for _, k := range n.Kids {
			walk(k)
		}
	}
	walk(s.Root)
	return out
}

// leafmost follows the first kids down.
func (n *Node) leafmost() *Node {
	for len(n.Kids) > 0 {
		n = n.Kids[0]
	}
	return n
}

// Walk calls fn for n and all below it.
func (n *Node) Walk(fn func(*Node)) {
	fn(n)
	for _, k := range n.Kids {
		k.Walk(fn)
	}
}
