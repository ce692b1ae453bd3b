package results

import (
	"fmt"
	"io"
	"time"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/picture"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// Plan is the result of `backup restore --plan`.
type Plan struct {
	To          Moment       `json:"to"` // inclusive
	Full        Backup       `json:"full"`
	Pieces      int          `json:"slices"`
	Collections []Collection `json:"collections"`
	Views       []string     `json:"views"`
	Documents   int64        `json:"documents"`
	DataBytes   int64        `json:"dataBytes"`
	Entries     int64        `json:"oplogEntries"` // to be read
	OplogBytes  int64        `json:"oplogBytes"`
	Overwritten []string     `json:"overwritten"`
	Untouched   []string     `json:"untouched"`
	Resumes     bool         `json:"resumes"`
	Estimate    float64      `json:"estimatedSeconds"`

	exact bool
}

// Collection is one collection of a plan.
type Collection struct {
	From      string `json:"from"`
	To        string `json:"to"`
	Documents int64  `json:"documents"`
	Bytes     int64  `json:"bytes"`
}

// NewPlan describes a plan.
func NewPlan(p *pitr.RestorePlan) *Plan {
	r := &Plan{To: at(p.To), Full: backup(p.FullManifest()), Pieces: len(p.Chain.Pieces), Collections: []Collection{}, Documents: p.Documents, DataBytes: p.DataBytes,
		Entries: p.OplogEntries, OplogBytes: p.OplogBytes, Overwritten: orNone(p.Overwritten), Untouched: orNone(p.Untouched), Resumes: p.Resumes, Estimate: p.Estimate.Seconds(), exact: p.Exact}
	r.Views = orNone(p.Views)
	for _, c := range p.Collections {
		r.Collections = append(r.Collections, Collection(c))
	}
	return r
}

func orNone(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// Text implements Report.
func (r *Plan) Text(w io.Writer) {
	if r.exact {
		fmt.Fprintf(w, "restore to the entry %s, inclusive\n", r.To)
	} else {
		fmt.Fprintf(w, "restore to %s, everything of that second included\n", r.To.Time.Format(time.RFC3339))
	}
	fmt.Fprintf(w, "from the full backup %s of %s, then %s\n", r.Full.ID, r.Full.End, tool.Count(r.Pieces, "slice", "slices"))
	for _, c := range r.Collections {
		name := c.From
		if c.To != c.From {
			name += " as " + c.To
		}
		fmt.Fprintf(w, "  %s  %s, %s\n", name, tool.Count(c.Documents, "document", "documents"), picture.Size(c.Bytes))
	}
	for _, v := range r.Views {
		fmt.Fprintf(w, "  %s  a view\n", v)
	}
	fmt.Fprintf(w, "data: %s, %s; oplog: %s to read, %s; about %s\n", tool.Count(r.Documents, "document", "documents"), picture.Size(r.DataBytes), tool.Count(r.Entries, "entry", "entries"), picture.Size(r.OplogBytes), seconds(r.Estimate))
	if r.Resumes {
		fmt.Fprintln(w, "an unfinished restore of the same is continued")
	}
	for _, ns := range r.Overwritten {
		fmt.Fprintf(w, "DROPS %s, which is on the target\n", ns)
	}
	if len(r.Untouched) > 0 {
		fmt.Fprintf(w, "stays as it is on the target: %v\n", r.Untouched)
	}
}

// Restore is the result of `backup restore`.
type Restore struct {
	To            Moment           `json:"to"` // inclusive
	Full          string           `json:"full"`
	Documents     int64            `json:"documents"`
	Indexes       int              `json:"indexes"`
	Entries       int64            `json:"oplogEntries"`      // read, also those that were not selected
	Applied       int64            `json:"operationsApplied"` // of a transaction each of its own
	Transactions  int64            `json:"transactions"`
	Skipped       map[string]int64 `json:"skipped"`
	Unfinished    []string         `json:"unfinishedTransactions"`
	Seconds       float64          `json:"seconds"`
	ReplaySeconds float64          `json:"replaySeconds"`
	Verified      *Comparison      `json:"verified,omitempty"`
}

// Comparison is what a comparison found.
type Comparison struct {
	OK          bool     `json:"ok"`
	Collections int      `json:"collectionsByHash"`
	Documents   int64    `json:"documentsByLastEntry"`
	Sampled     bool     `json:"sampled"`
	Source      int      `json:"collectionsEqualToSource"`
	Skipped     []string `json:"notCompared"`
	Differences []string `json:"differences"`
}

func comparison(c *pitr.Comparison) *Comparison {
	return &Comparison{len(c.Differences) == 0, c.Collections, c.Documents, c.Sampled, c.Source, orNone(c.Skipped), orNone(c.Differences)}
}

// NewRestore describes a finished restore.
func NewRestore(o *pitr.Restored) *Restore {
	r := &Restore{To: at(o.To), Full: o.Full, Documents: o.Documents, Indexes: o.Indexes, Entries: o.Replay.Entries, Applied: o.Replay.Applied,
		Transactions: o.Replay.Transactions, Skipped: o.Replay.Skipped, Unfinished: []string{}, Seconds: o.Took.Seconds(), ReplaySeconds: o.ReplayTook.Seconds()}
	for _, t := range o.Unfinished {
		r.Unfinished = append(r.Unfinished, t.String())
	}
	if o.Verified != nil {
		r.Verified = comparison(o.Verified)
	}
	return r
}

// Text implements Report.
func (r *Restore) Text(w io.Writer) {
	rate := ""
	if r.ReplaySeconds > 0.001 && r.Entries > 0 {
		rate = fmt.Sprintf(", %.0f a second", float64(r.Entries)/r.ReplaySeconds)
	}
	fmt.Fprintf(w, "restored to %s, inclusive: %s; %s read%s, %s applied; %s; %.1f s\n", r.To, tool.Count(r.Documents, "document", "documents"), tool.Count(r.Entries, "oplog entry", "oplog entries"), rate,
		tool.Count(r.Applied, "operation", "operations"), tool.Count(r.Indexes, "index", "indexes"), r.Seconds)
	for _, t := range r.Unfinished {
		fmt.Fprintf(w, "left out, not committed at that moment: %s\n", t)
	}
	r.Verified.text(w)
}

func (c *Comparison) text(w io.Writer) {
	if c == nil {
		return
	}
	sample := ""
	if c.Sampled {
		sample = " (a sample)"
	}
	fmt.Fprintf(w, "compared: %s by count and hash, %s%s, %s with the source\n", tool.Count(c.Collections, "collection", "collections"),
		tool.Count(c.Documents, "document with its last entry", "documents with their last entries"), sample, tool.Count(c.Source, "collection", "collections"))
	for _, s := range c.Skipped {
		fmt.Fprintf(w, "not compared: %s\n", s)
	}
	for _, d := range c.Differences {
		fmt.Fprintf(w, "DIFFERENT: %s\n", d)
	}
}

// Drill is the result of `backup drill`.
type Drill struct {
	OK         bool        `json:"ok"`
	To         Moment      `json:"to"`
	Full       string      `json:"full"`
	Documents  int64       `json:"documents"`
	Entries    int64       `json:"oplogEntries"`
	Seconds    float64     `json:"seconds"`
	Comparison *Comparison `json:"comparison"`
	Failure    string      `json:"failure,omitempty"`
}

// NewDrill describes a drill.
func NewDrill(d *pitr.Drilled) *Drill {
	return &Drill{d.OK(), at(d.To), d.Full, d.Documents, d.Entries, d.Took.Seconds(), comparison(&d.Comparison), d.Failure}
}

// Text implements Report.
func (r *Drill) Text(w io.Writer) {
	fmt.Fprintf(w, "drill to %s: %s, %s, %.1f s, %s\n", r.To, tool.Count(r.Documents, "document", "documents"), tool.Count(r.Entries, "oplog entry", "oplog entries"), r.Seconds, okText(r.OK))
	r.Comparison.text(w)
}

// Served is what `backup serve` says when the server is ready.
type Served struct {
	URI     string   `json:"uri"`
	Restore *Restore `json:"restore"`
}

// Text implements Report.
func (r *Served) Text(w io.Writer) {
	fmt.Fprintf(w, "serving %s, inclusive, read-only: %s\nend it with Ctrl-C; its data are removed\n", r.Restore.To, r.URI)
}
