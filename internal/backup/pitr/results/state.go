package results

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/picture"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/tool"
)

// List is the result of `backup list`.
type List struct {
	Repository string   `json:"repository"`
	Source     string   `json:"source,omitempty"`
	Windows    []Window `json:"recoverable"`
	Gaps       []Gap    `json:"gaps"`
	Holes      []Hole   `json:"notCovered"`
	Backups    []Backup `json:"backups"`
	Damaged    string   `json:"damaged,omitempty"`

	coverage *chain.Coverage
	style    picture.Style
	all      bool
}

// Hole is an interval between two windows: after one moment, before another.
type Hole struct {
	After  Moment `json:"after"`
	Before Moment `json:"before"`
	Gap    bool   `json:"gap"` // recorded as a gap
}

// NewList describes what a repository holds. all lists slices one by one in the text too.
func NewList(url string, st *pitr.State, style picture.Style, all bool) *List {
	c := st.Coverage
	l := &List{Repository: url, Source: st.Source(), Windows: windows(c.Windows), Gaps: gaps(c.OpenGaps()), Holes: []Hole{}, Backups: []Backup{},
		coverage: c, style: style, all: all}
	for _, h := range c.Holes() {
		l.Holes = append(l.Holes, Hole{place(h.After), place(h.Before), h.Gap != nil})
	}
	for _, b := range c.Backups {
		l.Backups = append(l.Backups, backup(st.Manifests[b.ID]))
	}
	if st.Damaged != nil {
		l.Damaged = st.Damaged.Error()
	}
	return l
}

// Text implements Report.
func (l *List) Text(w io.Writer) {
	fmt.Fprintf(w, "%s, backups of %s\n\n", l.Repository, orUnknown(l.Source))
	if l.Damaged != "" {
		fmt.Fprintf(w, "DAMAGED manifests, what they cover is missing below: %s\n\n", l.Damaged)
	}
	if err := picture.Terminal(w, l.coverage, l.style); err != nil {
		return // nothing more can be written there
	}
	fmt.Fprintln(w)
	slices, bytes, entries := 0, int64(0), int64(0)
	flush := func() {
		if slices > 0 {
			fmt.Fprintf(w, "  %s, %s, %s\n", tool.Count(slices, "slice", "slices"), tool.Count(entries, "entry", "entries"), picture.Size(bytes))
		}
		slices, bytes, entries = 0, 0, 0
	}
	for _, b := range l.Backups {
		if b.Kind != string(chain.Full) && !l.all {
			slices, bytes, entries = slices+1, bytes+b.Bytes, entries+b.Entries
			continue
		}
		flush()
		detail := tool.Count(b.Entries, "entry", "entries")
		if b.Kind == string(chain.Full) {
			detail = tool.Count(b.Documents, "document", "documents")
		}
		fmt.Fprintf(w, "%-9s %s  up to %s  %s, %s, %s\n", b.Kind, b.ID, b.End, detail, picture.Size(b.Bytes), storedIn(b))
	}
	flush()
}

func orUnknown(s string) string {
	if s == "" {
		return "nothing yet"
	}
	return s
}

// Status is the result of `backup status`.
type Status struct {
	Repository string             `json:"repository"`
	Newest     *Moment            `json:"newestRestorable,omitempty"`
	Windows    []Window           `json:"recoverable"`
	Gaps       []Gap              `json:"gaps"`
	Backups    int                `json:"backups"`
	LastFull   *Backup            `json:"lastFull,omitempty"`
	Server     *Server            `json:"server,omitempty"`
	NoServer   string             `json:"serverError,omitempty"`
	Verify     *pitr.VerifyRecord `json:"lastVerify,omitempty"`
	Drill      *pitr.DrillRecord  `json:"lastDrill,omitempty"`
	Locks      []repo.LockInfo    `json:"locks"`
	NoLocks    string             `json:"locksError,omitempty"`
	Damaged    string             `json:"damaged,omitempty"`
	OK         bool               `json:"ok"`
	Problems   []string           `json:"problems"`
}

// Server is the server's side of a status.
type Server struct {
	Name             string  `json:"name"`
	Version          string  `json:"version"`
	Newest           Moment  `json:"newest"`
	LagSeconds       float64 `json:"lagSeconds"`
	Pending          bool    `json:"pending"`
	Continues        bool    `json:"chainCanContinue"`
	OplogSeconds     float64 `json:"oplogWindowSeconds"`
	OplogLeftSeconds float64 `json:"oplogLeftSeconds"`
}

// NewStatus describes how backups stand. A lag above maxLag is a problem, if that is not 0.
func NewStatus(url string, s *pitr.Status, maxLag time.Duration) *Status {
	c := s.State.Coverage
	r := &Status{Repository: url, Windows: windows(c.Windows), Gaps: gaps(c.OpenGaps()), Backups: len(c.Backups), NoServer: s.ServerError,
		Verify: s.Verify, Locks: s.Locks, Problems: []string{}}
	if s.NoLocks != nil {
		r.NoLocks = s.NoLocks.Error()
	}
	if r.Locks == nil {
		r.Locks = []repo.LockInfo{}
	}
	if s.Newest != nil {
		m := place(*s.Newest)
		r.Newest = &m
	} else {
		r.Problems = append(r.Problems, "nothing can be restored: there is no full backup")
	}
	for _, b := range c.Backups {
		if b.Kind == chain.Full {
			f := backup(s.State.Manifests[b.ID])
			r.LastFull = &f
		}
	}
	if n := len(s.Drills); n > 0 {
		r.Drill = &s.Drills[n-1]
		if !r.Drill.OK {
			r.Problems = append(r.Problems, "the last drill failed")
		}
	}
	if s.Verify != nil && !s.Verify.OK {
		r.Problems = append(r.Problems, "the last verification found damage")
	}
	if s.State.Damaged != nil {
		r.Damaged = s.State.Damaged.Error()
		r.Problems = append(r.Problems, "manifests are damaged")
	}
	if v := s.Server; v != nil {
		r.Server = &Server{v.Name, v.Version, place(v.Newest), v.Lag.Seconds(), v.Pending, v.Continues, v.Window.Seconds(), v.Left.Seconds()}
		if len(c.Backups) > 0 && !v.Continues {
			r.Problems = append(r.Problems, "the chain is broken: its end is no longer in the server's oplog")
		}
		if maxLag > 0 && v.Pending && v.Lag > maxLag {
			r.Problems = append(r.Problems, fmt.Sprintf("the lag is %s, above %s", v.Lag, maxLag))
		}
	}
	if h, ok := c.Head(); ok {
		for _, g := range c.Gaps {
			if g.From == h.End && (s.Server == nil || s.Server.Continues) {
				r.Problems = append(r.Problems, "the chain is broken by a gap: take a full backup")
			}
		}
	}
	r.OK = len(r.Problems) == 0
	return r
}

// Text implements Report.
func (r *Status) Text(w io.Writer) {
	fmt.Fprintf(w, "repository    %s, %s\n", r.Repository, tool.Count(r.Backups, "backup", "backups"))
	if r.Newest != nil {
		fmt.Fprintf(w, "restorable    up to %s\n", r.Newest)
	}
	for _, win := range r.Windows {
		fmt.Fprintf(w, "window        %s to %s, both inclusive\n", win.From, win.To)
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(w, "GAP           after %s up to %s: %s\n", g.After, g.UpTo, g.Why)
	}
	if r.LastFull != nil {
		fmt.Fprintf(w, "last full     %s, %s\n", r.LastFull.ID, r.LastFull.End)
	}
	if s := r.Server; s != nil {
		lag := "none"
		if s.Pending {
			lag = fmt.Sprintf("%.0f s", s.LagSeconds)
		}
		fmt.Fprintf(w, "server        %s, %s\nlag           %s\n", s.Name, s.Version, lag)
		if s.Continues {
			fmt.Fprintf(w, "oplog         %s long; the chain must be continued within about %s\n", seconds(s.OplogSeconds), seconds(s.OplogLeftSeconds))
		}
	} else {
		fmt.Fprintf(w, "server        not asked: %s\n", r.NoServer)
	}
	if v := r.Verify; v != nil {
		fmt.Fprintf(w, "last verify   %s, %s\n", v.Finished.Format(time.RFC3339), okText(v.OK))
	} else {
		fmt.Fprintln(w, "last verify   never")
	}
	if d := r.Drill; d != nil {
		fmt.Fprintf(w, "last drill    %s, to %s, %s in %.0f s, %s\n", d.Finished.Format(time.RFC3339), d.To, tool.Count(d.Documents, "document", "documents"), d.Seconds, okText(d.OK))
	} else {
		fmt.Fprintln(w, "last drill    never: a backup that was never restored is a hope")
	}
	if r.NoLocks != "" {
		fmt.Fprintf(w, "lock          not known: %s\n", r.NoLocks)
	}
	for i := range r.Locks {
		fmt.Fprintf(w, "lock          %s\n", r.Locks[i].String())
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "PROBLEM       %s\n", p)
	}
}

func okText(ok bool) string {
	if ok {
		return "passed"
	}
	return "FAILED"
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

// Verify is the result of `backup verify`.
type Verify struct {
	OK        bool           `json:"ok"`
	Backups   int            `json:"backups"`
	Objects   int64          `json:"objects"`
	Packs     int64          `json:"packs"`
	PacksRead int64          `json:"packsRead"`
	Entries   int64          `json:"entries"`
	Documents int64          `json:"documents"`
	Notes     int64          `json:"notes"`
	Findings  []repo.Finding `json:"findings"`
	Problems  []string       `json:"problems"`
	Gaps      []Gap          `json:"gaps"`
	Seconds   float64        `json:"seconds"`
}

// NewVerify describes a verification.
func NewVerify(v *pitr.Verified) *Verify {
	r := &Verify{v.OK(), v.Backups, v.Stats.Objects, v.Stats.Packs, v.Stats.PacksRead, v.Entries, v.Docs, v.Stats.Notes, v.Findings, v.Problems, gaps(v.Gaps), v.Took.Seconds()}
	if r.Findings == nil {
		r.Findings = []repo.Finding{}
	}
	if r.Problems == nil {
		r.Problems = []string{}
	}
	return r
}

// Text implements Report.
func (r *Verify) Text(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, %d of %s read, %s and %s counted, %.1f s\n", tool.Count(r.Backups, "backup", "backups"), tool.Count(r.Objects, "object", "objects"), r.PacksRead,
		tool.Count(r.Packs, "pack", "packs"), tool.Count(r.Entries, "entry", "entries"), tool.Count(r.Documents, "document", "documents"), r.Seconds)
	for _, g := range r.Gaps {
		fmt.Fprintf(w, "GAP (recorded): after %s up to %s: %s\n", g.After, g.UpTo, g.Why)
	}
	if r.OK {
		fmt.Fprintln(w, "all is as it was written")
	}
}

// Prune is the result of `backup prune`.
type Prune struct {
	DryRun    bool            `json:"dryRun"`
	Decisions []Decision      `json:"decisions"`
	Deleted   int             `json:"deletedBackups"`
	Sweep     repo.SweepStats `json:"sweep"`
	Windows   []Window        `json:"recoverable"`
}

// Decision is what happens to one backup.
type Decision struct {
	ID      string   `json:"id"`
	Kind    string   `json:"kind"`
	End     Moment   `json:"end"`
	Keep    bool     `json:"keep"`
	Reasons []string `json:"reasons,omitempty"`
}

// NewPrune describes a prune.
func NewPrune(p pitr.Pruned, dry bool) *Prune {
	r := &Prune{DryRun: dry, Decisions: []Decision{}, Deleted: p.Deleted, Sweep: p.Sweep, Windows: windows(p.Windows)}
	for _, d := range p.Decisions {
		r.Decisions = append(r.Decisions, Decision{d.Backup.ID, string(d.Backup.Kind), place(d.Backup.End), d.Keep, d.Reasons})
	}
	return r
}

// Text implements Report.
func (r *Prune) Text(w io.Writer) {
	kept := 0
	for _, d := range r.Decisions {
		if d.Keep {
			kept++
		}
		if d.Kind != string(chain.Full) {
			continue
		}
		word := "delete"
		if d.Keep {
			word = "keep  "
		}
		why := ""
		if len(d.Reasons) > 0 {
			why = "  (" + strings.Join(d.Reasons, ", ") + ")"
		}
		fmt.Fprintf(w, "%s  full %s  %s%s\n", word, d.ID, d.End, why)
	}
	verb := "deleted"
	if r.DryRun {
		verb = "would be deleted"
	}
	fmt.Fprintf(w, "%s kept, %d %s; %s (%s) %s, %d left for the next time\n", tool.Count(kept, "backup", "backups"), r.Deleted, verb,
		tool.Count(r.Sweep.Deleted, "pack", "packs"), picture.Size(r.Sweep.DeletedBytes), verb, r.Sweep.Condemned)
	if s := r.Sweep; s.Repacked > 0 {
		verb := "was"
		if r.DryRun {
			verb = "would be"
		}
		fmt.Fprintf(w, "%d of these packs (%s) %s in use in part: that part (%s) %s stored anew\n", s.Repacked, picture.Size(s.RepackedBytes), tool.Plural(int64(s.Repacked), "is", "are"), picture.Size(s.RewrittenStored), verb)
	}
	for _, win := range r.Windows {
		fmt.Fprintf(w, "restorable: %s to %s\n", win.From, win.To)
	}
}
