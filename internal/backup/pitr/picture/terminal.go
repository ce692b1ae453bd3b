package picture

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
)

// Style chooses how the terminal drawing looks.
type Style struct {
	// Width is the number of columns, at least 40.
	Width int
	// ASCII avoids block characters; Color uses ANSI colours.
	ASCII, Color bool
	// Zone is the time zone of the axis; nil is UTC.
	Zone *time.Location
}

// cell is what a column of time is.
type cell int

const (
	nothing cell = iota
	restorable
	gap
)

// axis maps time to columns.
type axis struct {
	from, to float64 // seconds
	n        int
}

func newAxis(c *chain.Coverage, n int) (axis, bool) {
	a := axis{math.Inf(1), math.Inf(-1), n}
	for _, b := range c.Backups {
		start := b.Start
		if b.Kind == chain.Full {
			start = b.End
		}
		a.from, a.to = min(a.from, float64(start.TS.Seconds())), max(a.to, float64(b.End.TS.Seconds()))
	}
	for _, g := range c.Gaps {
		a.from, a.to = min(a.from, float64(g.From.TS.Seconds())), max(a.to, float64(g.To.TS.Seconds()))
	}
	if a.to == a.from {
		a.to++
	}
	return a, a.to > a.from && !math.IsInf(a.from, 0)
}

func (a axis) column(sec uint32) int {
	return min(int((float64(sec)-a.from)/(a.to-a.from)*float64(a.n)), a.n-1)
}

func (a axis) span(i int) (lo, hi float64) {
	step := (a.to - a.from) / float64(a.n)
	return a.from + float64(i)*step, a.from + float64(i+1)*step
}

// cells says for each column what it is. A column is restorable only if all of it is, up to
// the ends of the axis; a gap of any length takes at least one column.
func (a axis) cells(c *chain.Coverage) []cell {
	cells := make([]cell, a.n)
	for i := range cells {
		lo, hi := a.span(i)
		for _, w := range c.Windows {
			from, to := float64(w.From.TS.Seconds()), float64(w.To.TS.Seconds())
			if from <= lo && hi <= to || i == a.column(w.From.TS.Seconds()) && (to >= hi || from == to) || i == a.column(w.To.TS.Seconds()) && from <= lo {
				cells[i] = restorable
			}
		}
	}
	for _, h := range c.Holes() {
		for i := a.column(h.After.TS.Seconds()) + 1; i < a.column(h.Before.TS.Seconds()); i++ {
			cells[i] = nothing
		}
		if h.Gap == nil && a.column(h.Before.TS.Seconds())-a.column(h.After.TS.Seconds()) < 2 {
			cells[a.column(h.Before.TS.Seconds())] = nothing
		}
	}
	for _, g := range c.OpenGaps() {
		for i := a.column(g.From.TS.Seconds()); i <= a.column(g.To.TS.Seconds()); i++ {
			lo, hi := a.span(i)
			if i == a.column(g.To.TS.Seconds()) || lo >= float64(g.From.TS.Seconds()) && hi <= float64(g.To.TS.Seconds()) {
				cells[i] = gap
			}
		}
	}
	return cells
}

// Terminal draws coverage in lines of text: full backups, restorable time, gaps, an axis, and
// below them the numbers.
func Terminal(w io.Writer, c *chain.Coverage, s Style) error {
	zone := s.Zone
	if zone == nil {
		zone = time.UTC
	}
	n := max(s.Width, 40) - 2
	a, ok := newAxis(c, n)
	if !ok {
		_, err := fmt.Fprintln(w, "nothing is backed up yet: cairn backup full")
		return err
	}
	glyphs := map[cell]string{nothing: " ", restorable: "█", gap: "×"}
	if s.ASCII {
		glyphs = map[cell]string{nothing: " ", restorable: "=", gap: "x"}
	}
	paint := func(code, text string) string {
		if !s.Color {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	var out strings.Builder
	marks := []rune(strings.Repeat(" ", n))
	for _, b := range c.Backups {
		if b.Kind == chain.Full {
			marks[a.column(b.End.TS.Seconds())] = 'F'
		}
	}
	fmt.Fprintf(&out, " %s\n ", strings.TrimRight(string(marks), " "))
	for _, k := range a.cells(c) {
		switch g := glyphs[k]; k {
		case restorable:
			out.WriteString(paint("32", g))
		case gap:
			out.WriteString(paint("31;1", g))
		default:
			out.WriteString(g)
		}
	}
	fmt.Fprintf(&out, "\n%s\n", axisLine(a, zone, s.ASCII))
	fmt.Fprintf(&out, "F full backup  %s every moment restorable  %s gap, lost  (blank) not covered\n\n", glyphs[restorable], glyphs[gap])
	writeNumbers(&out, c)
	_, err := io.WriteString(w, out.String())
	return err
}

// axisLine is a ruler and its labels: the ends, and what fits between.
func axisLine(a axis, zone *time.Location, ascii bool) string {
	layout := "15:04:05"
	switch span := a.to - a.from; {
	case span > 60*86400:
		layout = "2006-01-02"
	case span > 86400:
		layout = "01-02 15:04"
	}
	tick, line := "┴", "─"
	if ascii {
		tick, line = "+", "-"
	}
	count := max(a.n/(len(layout)+6), 1)
	ruler := make([]string, a.n)
	for i := range ruler {
		ruler[i] = line
	}
	labels := []rune(strings.Repeat(" ", a.n+len(layout)+2))
	for k := range count + 1 {
		col := min(k*a.n/count, a.n-1)
		ruler[col] = tick
		text := time.Unix(int64(a.from+(a.to-a.from)*float64(k)/float64(count)), 0).In(zone).Format(layout)
		at := max(min(col-len(text)/2, a.n-len(text)), 0)
		copy(labels[at:], []rune(text))
	}
	return " " + strings.Join(ruler, "") + "\n " + strings.TrimRight(string(labels), " ")
}

// writeNumbers lists windows, holes and gaps exactly.
func writeNumbers(out *strings.Builder, c *chain.Coverage) {
	if len(c.Windows) == 0 {
		out.WriteString("restorable: nothing; oplog without a full backup before it cannot be restored\n")
	}
	for _, w := range c.Windows {
		if w.From == w.To {
			fmt.Fprintf(out, "restorable: the moment %s\n", chain.Describe(w.From.TS))
			continue
		}
		fmt.Fprintf(out, "restorable: every moment from %s to %s, both inclusive\n", chain.Describe(w.From.TS), chain.Describe(w.To.TS))
	}
	for _, g := range c.OpenGaps() {
		fmt.Fprintf(out, "GAP:        after %s up to %s is lost: %s\n", chain.Describe(g.From.TS), chain.Describe(g.To.TS), g.Why)
	}
	for _, h := range c.Holes() {
		if h.Gap == nil {
			fmt.Fprintf(out, "not covered: after %s and before %s\n", chain.Describe(h.After.TS), chain.Describe(h.Before.TS))
		}
	}
}
