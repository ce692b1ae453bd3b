package exec

import (
	"github.com/cairndb/cairn/internal/query/plan"
)

const (
	// trialResults ends a trial: as many as a first batch holds.
	trialResults = 101
	// trialWorks bounds the work of each plan in a trial.
	trialWorks = 10000
)

// Trial is the outcome of running several plans against each other.
type Trial struct {
	Winner *Exec
	Losers []*Exec // closed, kept for explain
	Works  int64   // of each plan
	// Blocking says that the winner had no result yet (a sort).
	Blocking bool
}

// Try runs all plans in turn, a work each, until one has a batch of results or ends,
// and chooses the most productive. The others are closed. The winner's results are
// kept and come first when it goes on.
func Try(c *Collection, sols []*plan.Solution, o Options) (*Trial, error) {
	runs := make([]*Exec, len(sols))
	for i, s := range sols {
		runs[i] = New(c, s, o)
		runs[i].step = 1
	}
	closeAll := func() {
		for _, r := range runs {
			r.Close()
		}
	}
	works := int64(0)
	results := make([]int64, len(runs))
	failed := make([]error, len(runs))
	for done := false; !done && works < trialWorks; works++ {
		if o.Interrupt != nil && works%slice == 0 {
			if err := o.Interrupt(); err != nil {
				closeAll()
				return nil, err
			}
		}
		for i, r := range runs {
			if failed[i] != nil {
				continue
			}
			var row Row
			st, err := r.root.next(&row)
			switch {
			case err != nil:
				failed[i] = err
			case st == eof:
				r.atEOF, done = true, true
			case st == advanced:
				r.buffered = append(r.buffered, bufferedRow{row.ID, row.Doc.Clone()})
				if results[i]++; results[i] >= trialResults {
					done = true
				}
			}
		}
		if allFailed(failed) {
			closeAll()
			return nil, failed[0]
		}
	}
	best, bestScore := -1, -1.0
	for i, r := range runs {
		if failed[i] != nil {
			continue
		}
		if s := score(r, results[i], works); s > bestScore {
			best, bestScore = i, s
		}
	}
	t := &Trial{Works: works}
	for i, r := range runs {
		r.Plan.Works = works
		if i == best {
			r.step = slice
			t.Winner = r
			t.Blocking = r.Plan.HasSort && results[i] == 0
			continue
		}
		r.Close()
		t.Losers = append(t.Losers, r)
	}
	return t, nil
}

func allFailed(errs []error) bool {
	for _, e := range errs {
		if e == nil {
			return false
		}
	}
	return true
}

// score is MongoDB's: productivity, a bonus for reaching the end, and small ones for
// plans without a fetch or sort that break ties.
func score(r *Exec, results, works int64) float64 {
	s := 1.0 + float64(results)/float64(max(works, 1))
	tie := min(1.0/(10*float64(max(works, 1))), 1e-4)
	if !r.Plan.HasFetch {
		s += tie
	}
	if !r.Plan.HasSort {
		s += tie
	}
	s += tie // no index intersection
	if r.atEOF {
		s++
	}
	return s
}
