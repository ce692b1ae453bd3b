package picture

import (
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
)

// Page is what the HTML page shows besides the coverage.
type Page struct {
	Repository string
	Source     string
	Made       time.Time
	Coverage   *chain.Coverage
}

type bar struct {
	X, W  float64 // per cent of the width
	Title string
}

type tick struct {
	X     float64
	Label string
}

type row struct{ ID, Kind, Start, End, Clock, Size, Entries string }

type view struct {
	Page
	MadeText               string
	Windows, Lost, Blank   []bar
	Fulls, Slices          []bar
	Ticks                  []tick
	Numbers, Gaps, Missing []string
	Rows                   []row
}

// HTML writes one page without any outside resource or script: the timeline as SVG, with the
// exact numbers on hover and in tables.
func HTML(w io.Writer, p Page) error {
	v := view{Page: p, MadeText: p.Made.UTC().Format(time.RFC3339)}
	c := p.Coverage
	a, ok := newAxis(c, 1000)
	if ok {
		v.draw(c, a)
	}
	for _, g := range c.OpenGaps() {
		v.Gaps = append(v.Gaps, fmt.Sprintf("after %s up to %s is lost: %s", chain.Describe(g.From.TS), chain.Describe(g.To.TS), g.Why))
	}
	for i := len(c.Backups) - 1; i >= 0; i-- {
		b := c.Backups[i]
		r := row{ID: b.ID, Kind: string(b.Kind), Start: chain.Text(b.Start.TS), End: chain.Text(b.End.TS), Clock: chain.Clock(b.End.TS).Format(time.RFC3339),
			Size: Size(b.Bytes), Entries: fmt.Sprint(b.Entries)}
		v.Rows = append(v.Rows, r)
	}
	return page.Execute(w, v)
}

func (v *view) draw(c *chain.Coverage, a axis) {
	x := func(sec uint32) float64 { return (float64(sec) - a.from) / (a.to - a.from) * 100 }
	span := func(from, to chain.OpTime, title string) bar {
		return bar{X: x(from.TS.Seconds()), W: max(x(to.TS.Seconds())-x(from.TS.Seconds()), 0.15), Title: title}
	}
	for _, w := range c.Windows {
		text := fmt.Sprintf("every moment from %s to %s, both inclusive", chain.Describe(w.From.TS), chain.Describe(w.To.TS))
		v.Windows = append(v.Windows, span(w.From, w.To, text))
		v.Numbers = append(v.Numbers, text)
	}
	for _, h := range c.Holes() {
		text := fmt.Sprintf("after %s and before %s", chain.Describe(h.After.TS), chain.Describe(h.Before.TS))
		v.Blank = append(v.Blank, span(h.After, h.Before, "not covered: "+text))
		if h.Gap == nil {
			v.Missing = append(v.Missing, text)
		}
	}
	for _, g := range c.OpenGaps() {
		v.Lost = append(v.Lost, span(g.From, g.To, "gap: "+g.Why))
	}
	for _, b := range c.Backups {
		title := fmt.Sprintf("%s %s: %s to %s, %s", b.Kind, b.ID, chain.Describe(b.Start.TS), chain.Describe(b.End.TS), Size(b.Bytes))
		if b.Kind == chain.Full {
			v.Fulls = append(v.Fulls, bar{X: x(b.End.TS.Seconds()), W: 0.3, Title: title})
		} else {
			v.Slices = append(v.Slices, span(b.Start, b.End, title))
		}
	}
	layout := "15:04:05"
	if a.to-a.from > 86400 {
		layout = "2006-01-02 15:04"
	}
	for k := range 6 {
		at := a.from + (a.to-a.from)*float64(k)/5
		v.Ticks = append(v.Ticks, tick{X: float64(k) * 20, Label: time.Unix(int64(at), 0).UTC().Format(layout)})
	}
}

// Size writes a number of bytes for people.
func Size(n int64) string {
	f, unit := float64(n), 0
	for f >= 1000 && unit < 5 {
		f, unit = f/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGTP"[unit-1])
}

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Backups in {{.Repository}}</title>
<style>
:root{color-scheme:light dark;--ok:#2f9e5f;--bad:#d33;--full:#2563c9;--slice:#8fc7a8;--line:#8884}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
svg{width:100%;height:130px;display:block}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line)}
.bad{color:var(--bad);font-weight:600}.key{display:inline-block;width:.9em;height:.9em;margin:0 .3em 0 1em;vertical-align:-.1em}
</style></head><body>
<h1>Backups in {{.Repository}}</h1>
<p>{{if .Source}}Source: {{.Source}}. {{end}}Drawn {{.MadeText}}. Times are UTC; hover over a bar for exact numbers.</p>
{{if .Ticks}}<svg role="img" aria-label="coverage in time" overflow="visible">
<line x1="0" x2="100%" y1="92" y2="92" stroke="currentColor" stroke-opacity=".4"/>
{{range .Windows}}<rect x="{{.X}}%" width="{{.W}}%" y="34" height="34" fill="var(--ok)"><title>{{.Title}}</title></rect>
{{end}}{{range .Blank}}<rect x="{{.X}}%" width="{{.W}}%" y="34" height="34" fill="currentColor" fill-opacity=".08"><title>{{.Title}}</title></rect>
{{end}}{{range .Lost}}<rect x="{{.X}}%" width="{{.W}}%" y="34" height="34" fill="var(--bad)"><title>{{.Title}}</title></rect>
{{end}}{{range .Slices}}<rect x="{{.X}}%" width="{{.W}}%" y="74" height="12" fill="var(--slice)" stroke="var(--ok)" stroke-width=".5"><title>{{.Title}}</title></rect>
{{end}}{{range .Fulls}}<rect x="{{.X}}%" width="{{.W}}%" y="12" height="74" fill="var(--full)"><title>{{.Title}}</title></rect>
{{end}}{{range .Ticks}}<text x="{{.X}}%" y="112" font-size="11" fill="currentColor" text-anchor="middle">{{.Label}}</text>
{{end}}</svg>
<p><span class="key" style="background:var(--full)"></span>full backup<span class="key" style="background:var(--ok)"></span>every moment restorable<span class="key" style="background:var(--slice)"></span>oplog slice<span class="key" style="background:var(--bad)"></span>gap, lost</p>
{{end}}<h2>Recoverable window</h2>
{{if .Numbers}}<ul>{{range .Numbers}}<li>{{.}}</li>{{end}}</ul>{{else}}<p class="bad">Nothing can be restored: there is no full backup.</p>{{end}}
{{if .Gaps}}<h2 class="bad">Gaps</h2><ul>{{range .Gaps}}<li class="bad">{{.}}</li>{{end}}</ul>{{end}}
{{if .Missing}}<h2>Not covered</h2><ul>{{range .Missing}}<li>{{.}}</li>{{end}}</ul>{{end}}
<h2>Backups</h2>
<table><tr><th>id</th><th>kind</th><th>from</th><th>to, inclusive</th><th>to, UTC</th><th>size</th><th>entries</th></tr>
{{range .Rows}}<tr><td>{{.ID}}</td><td>{{.Kind}}</td><td>{{.Start}}</td><td>{{.End}}</td><td>{{.Clock}}</td><td>{{.Size}}</td><td>{{.Entries}}</td></tr>
{{end}}</table></body></html>
`))
