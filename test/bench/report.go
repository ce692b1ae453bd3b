package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// result is one row of a report.
type result struct {
	Name    string        `json:"name"`
	Unit    string        `json:"unit"`                             // what Rate counts
	Rate    float64       `json:"rate"`                             // units a second
	Units   int64         `json:"units"`                            // how many were done
	Ops     int64         `json:"ops"`                              // calls they took
	Elapsed time.Duration `json:"elapsed_ns"`                       // wall time of the measured part
	P50     time.Duration `json:"p50_ns"`                           // of one call
	P99     time.Duration `json:"p99_ns"`                           //
	Max     time.Duration `json:"max_ns"`                           //
	CPU     time.Duration `json:"cpu_ns_per_unit"`                  // server user + system a unit; 0 when unknown
	Client  time.Duration `json:"client_cpu_ns_per_unit,omitempty"` // this program's, which has the same processors
	RSS     int64         `json:"rss_bytes,omitempty"`
	PeakRSS int64         `json:"peak_rss_bytes,omitempty"`
	Note    string        `json:"note,omitempty"`

	// Ping measured beside the row, for rows that are judged by it (see pings).
	PingRate   float64       `json:"ping_rate,omitempty"` // operations a second
	PingCPU    time.Duration `json:"ping_cpu_ns,omitempty"`
	PingClient time.Duration `json:"ping_client_cpu_ns,omitempty"`
	// Both of a row by turns with ping, without its first second: right after a load that is when
	// the server gets to know what is asked for.
	LaterRate     float64 `json:"later_rate,omitempty"`
	LaterPingRate float64 `json:"later_ping_rate,omitempty"`

	Err string `json:"error,omitempty"`
}

// report is one run: what ran where, and its rows.
type report struct {
	Label       string    `json:"label"`
	Server      string    `json:"server"`
	Time        time.Time `json:"time"`
	CPUs        int       `json:"cpus"`
	Go          string    `json:"go"`
	Connections int       `json:"connections"`
	Docs        int       `json:"docs"`
	DocSize     int       `json:"doc_size"`
	Rows        []result  `json:"rows"`
}

func newReport(c config) *report {
	return &report{Label: c.label, Time: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Connections: c.connections, Docs: c.docs, DocSize: c.docSize}
}

// describe fills in what the server says of itself.
func (r *report) describe(e *env) {
	r.Server = e.version
	if r.Label == "" {
		r.Label = e.version
	}
}

func (r *report) write(name string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

func (r *report) failed() (names []string) {
	for _, row := range r.Rows {
		if row.Err != "" {
			names = append(names, row.Name)
		}
	}
	return names
}

func (r *report) row(name string) *result {
	for i := range r.Rows {
		if r.Rows[i].Name == name && r.Rows[i].Err == "" {
			return &r.Rows[i]
		}
	}
	return nil
}

// table prints the report for people; the same on a terminal and in a pipe.
func (r *report) table(w io.Writer) {
	fmt.Fprintf(w, "%s (%s), %d connections, %s documents of %d bytes, %d CPUs shared by client and server\n\n",
		r.Label, r.Server, r.Connections, grouped(float64(r.Docs)), r.DocSize, r.CPUs)
	t := [][]string{{"row", "rate", "p50", "p99", "max", "server CPU", "client CPU", "RSS", "peak", ""}}
	for _, x := range r.Rows {
		if x.Err != "" {
			t = append(t, []string{x.Name, "FAILED", "", "", "", "", "", "", "", firstLine(x.Err)})
			continue
		}
		cpu := ""
		if x.CPU > 0 {
			cpu = short(x.CPU) + "/" + unitShort(x.Unit)
		}
		t = append(t, []string{x.Name, grouped(x.Rate) + " " + unitShort(x.Unit) + "/s", short(x.P50), short(x.P99), short(x.Max),
			cpu, short(x.Client), megabytes(x.RSS), megabytes(x.PeakRSS), x.Note})
	}
	writeTable(w, t)
	r.ratios(w)
}

// ratios relates rows of one run to ping: machines differ, these do less. Of the two figures the
// first is the one to go by, the second says what the machine did between the two rows.
func (r *report) ratios(w io.Writer) {
	var beside, row []string
	ping := r.row("ping")
	for _, name := range []string{"findOne", "updateOne", "insertOne"} {
		x := r.row(name)
		if x == nil {
			continue
		}
		if x.PingRate > 0 {
			s := fmt.Sprintf("%s %.2f", name, x.Rate/x.PingRate)
			if x.LaterPingRate > 0 {
				s += fmt.Sprintf(" (%.2f without the first second)", x.LaterRate/x.LaterPingRate)
			}
			beside = append(beside, s)
		}
		if ping != nil && ping.Rate > 0 {
			row = append(row, fmt.Sprintf("%s %.2f", name, x.Rate/ping.Rate))
		}
	}
	if len(beside) > 0 {
		fmt.Fprintf(w, "\nrate ÷ ping's, measured beside the row: %s\n", strings.Join(beside, ", "))
	}
	if len(row) > 0 {
		fmt.Fprintf(w, "rate ÷ the ping row's, of another minute: %s\n", strings.Join(row, ", "))
	}
}

// compareFiles prints the ratio of two reports, row by row.
func compareFiles(w io.Writer, nameA, nameB string) error {
	var a, b report
	for name, r := range map[string]*report{nameA: &a, nameB: &b} {
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, r); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	compare(w, &a, &b)
	return nil
}

func compare(w io.Writer, a, b *report) {
	if a.Connections != b.Connections || a.Docs != b.Docs || a.DocSize != b.DocSize {
		fmt.Fprintf(w, "careful: the runs differ in connections, documents or size\n")
	}
	t := [][]string{{"row", a.Label, b.Label, "rate A÷B", "p99 A÷B", "CPU A÷B"}}
	for _, x := range a.Rows {
		y := b.row(x.Name)
		if y == nil || x.Err != "" {
			t = append(t, []string{x.Name, rateOf(&x), rateOf(y), "", "", ""})
			continue
		}
		t = append(t, []string{x.Name, rateOf(&x), rateOf(y), ratio(x.Rate, y.Rate),
			ratio(float64(x.P99), float64(y.P99)), ratio(float64(x.CPU), float64(y.CPU))})
	}
	writeTable(w, t)
}

func rateOf(x *result) string {
	if x == nil || x.Err != "" {
		return "-"
	}
	return grouped(x.Rate) + " " + unitShort(x.Unit) + "/s"
}

func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

// writeTable aligns the first column left, the last one left, all others right.
func writeTable(w io.Writer, t [][]string) {
	width := make([]int, len(t[0]))
	for _, line := range t {
		for i, cell := range line {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for _, line := range t {
		var b strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", width[i]-len([]rune(cell)))
			switch {
			case i == 0:
				b.WriteString(cell + pad)
			case i == len(line)-1 && t[0][i] == "":
				b.WriteString("  " + cell)
			default:
				b.WriteString("  " + pad + cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > 100 {
		return string(r[:100]) + "…"
	}
	return s
}

func unitShort(u string) string {
	if u == "documents" {
		return "doc"
	}
	return "op"
}

// grouped writes a rate with thousands separated, small ones with a decimal.
func grouped(f float64) string {
	if f < 100 {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	s := strconv.FormatInt(int64(math.Round(f)), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short writes a duration with three digits.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

func megabytes(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n>>20, 10) + " MB"
}

// progress writes one changing line, on a terminal only.
type progress struct {
	w  io.Writer
	on bool
}

func newProgress(f *os.File) *progress {
	st, err := f.Stat()
	return &progress{w: f, on: err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

func (p *progress) show(format string, args ...any) {
	if p.on {
		fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
	}
}

func (p *progress) clear() { p.show("") }
