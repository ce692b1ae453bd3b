package chain

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

func at(t uint32) OpTime { return OpTime{TS: bson.NewTimestamp(t, 1), Term: 1} }

func full(id string, start, end uint32) Backup {
	return Backup{ID: id, Kind: Full, Start: at(start), End: at(end)}
}

func slice(start, end uint32) Backup {
	return Backup{ID: fmt.Sprintf("s%d-%d", start, end), Kind: Slice, Start: at(start), End: at(end)}
}

func ids(bs []Backup) string {
	var s []string
	for _, b := range bs {
		s = append(s, b.ID)
	}
	return strings.Join(s, " ")
}

func TestCoverage(t *testing.T) {
	rolledBack := slice(30, 40)
	rolledBack.Start.Term = 2
	for _, tc := range []struct {
		name    string
		backups []Backup
		windows string
		to      uint32
		plan    string // "" is not restorable
	}{
		{"nothing", nil, "", 10, ""},
		{"one full is one moment", []Backup{full("A", 5, 10)}, "10-10", 10, "A"},
		{"not inside the full itself", []Backup{full("A", 5, 10)}, "10-10", 7, ""},
		{"slices", []Backup{slice(20, 30), full("A", 5, 10), slice(10, 20)}, "10-30", 25, "A s10-20 s20-30"},
		{"hole", []Backup{full("A", 5, 10), slice(10, 20), slice(25, 30)}, "10-20", 27, ""},
		{"hole closed by a full", []Backup{full("A", 5, 10), slice(10, 20), full("B", 25, 30), slice(30, 40)}, "10-20 30-40", 35, "B s30-40"},
		{"newest full wins", []Backup{full("A", 5, 10), slice(10, 20), full("B", 15, 20), slice(20, 30)}, "10-30", 30, "B s20-30"},
		{"inside the newer full's own time the older one serves", []Backup{full("A", 5, 10), slice(10, 20), full("B", 15, 30)}, "10-30", 25, "A s10-20 B"},
		{"merged slices beside the small ones", []Backup{full("A", 5, 10), slice(10, 20), slice(20, 30), slice(10, 30)}, "10-30", 30, "A s10-30"},
		{"rolled back entry", []Backup{full("A", 5, 10), slice(10, 30), rolledBack}, "10-30", 35, ""},
		{"extension", []Backup{full("A", 5, 10), {ID: "x", Kind: Extension, Start: at(10), End: at(15)}, slice(15, 20)}, "10-20", 20, "A x s15-20"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := New(tc.backups, nil)
			var ws []string
			for _, w := range c.Windows {
				ws = append(ws, fmt.Sprintf("%d-%d", w.From.TS.Seconds(), w.To.TS.Seconds()))
			}
			if got := strings.Join(ws, " "); got != tc.windows {
				t.Errorf("windows %q, want %q", got, tc.windows)
			}
			p, err := c.Plan(at(tc.to).TS)
			got := ""
			if err == nil {
				got = strings.TrimSpace(p.Full.ID + " " + ids(p.Pieces))
			}
			if got != tc.plan {
				t.Errorf("plan %q (%v), want %q", got, err, tc.plan)
			}
			if c.Covers(at(tc.to).TS) != (tc.plan != "") {
				t.Errorf("Covers and Plan differ")
			}
		})
	}
}

// A random set of pieces against the plain definition: a moment is restorable if from the end
// of some full backup one can step through pieces that share an entry.
func TestPlanAgainstDefinition(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var bs []Backup
		for i := range rnd.IntN(9) {
			s := uint32(1 + rnd.IntN(30))
			e := s + uint32(rnd.IntN(8))
			b := slice(s, e)
			if rnd.IntN(3) == 0 {
				b = full(fmt.Sprint("F", i), s, e)
			}
			bs = append(bs, b)
		}
		c := New(bs, nil)
		for to := uint32(1); to < 40; to++ {
			want := false
			for _, f := range bs {
				if f.Kind != Full || f.End.TS.Seconds() > to {
					continue
				}
				pos := f.End.TS.Seconds()
				for grown := true; grown && pos < to; {
					grown = false
					for _, p := range bs {
						if p.Start.TS.Seconds() <= pos && p.End.TS.Seconds() > pos {
							pos, grown = p.End.TS.Seconds(), true
						}
					}
				}
				want = want || pos >= to
			}
			p, err := c.Plan(at(to).TS)
			if (err == nil) != want {
				t.Fatalf("%v to %d: %v, want restorable %v", ids(bs), to, err, want)
			}
			if err != nil {
				continue
			}
			pos := p.Full.End.TS.Seconds()
			for _, q := range p.Pieces {
				if q.Start.TS.Seconds() > pos {
					t.Fatalf("%v to %d: a hole before %s", ids(bs), to, q.ID)
				}
				pos = q.End.TS.Seconds()
			}
			if pos < to {
				t.Fatalf("%v to %d: ends at %d", ids(bs), to, pos)
			}
		}
	}
}

func TestNotRestorableNamesNeighboursAndGap(t *testing.T) {
	gap := Gap{ID: "g", From: at(20), To: at(24), Why: "the oplog was overrun"}
	c := New([]Backup{full("A", 5, 10), slice(10, 20), full("B", 25, 30)}, []Gap{gap})
	for _, tc := range []struct {
		to   uint32
		want []string
	}{
		{22, []string{"gap from 20:1", "the oplog was overrun", "20:1 (1970-01-01T00:00:20Z) before it and 30:1"}},
		{27, []string{"gap from 20:1", "30:1"}},
		{4, []string{"older than every backup", "10:1"}},
		{31, []string{"newer than every backup", "30:1"}},
	} {
		_, err := c.Plan(at(tc.to).TS)
		var e *NotRestorableError
		if !errors.As(err, &e) {
			t.Fatalf("%d: %v", tc.to, err)
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%d: %q does not say %q", tc.to, err, w)
			}
		}
	}
	if h := c.Holes(); len(h) != 1 || h[0].Gap == nil || h[0].Gap.ID != "g" {
		t.Errorf("holes %+v", h)
	}
	if _, err := c.Plan(EndOfSecond(30)); err == nil || !strings.Contains(err.Error(), "not yet complete") {
		t.Errorf("an unfinished second: %v", err)
	}
	if g := c.OpenGaps(); len(g) != 1 {
		t.Errorf("open gaps %v", g)
	}
	over := New([]Backup{full("A", 5, 10), slice(10, 20), full("B", 15, 30)}, []Gap{gap})
	if g := over.OpenGaps(); len(g) != 0 {
		t.Errorf("a covered gap is still open: %v", g)
	}
}

func TestHead(t *testing.T) {
	c := New([]Backup{full("A", 5, 10), slice(10, 20), full("B", 15, 20)}, nil)
	if h, ok := c.Head(); !ok || h.Kind != Slice || h.End != at(20) {
		t.Errorf("head %+v", h)
	}
	behind := New([]Backup{full("A", 5, 10), slice(10, 20), full("B", 22, 25)}, nil)
	if h := behind.Heads(); len(h) != 2 || h[0].End != at(20) || h[1].ID != "B" {
		t.Errorf("a full backup beyond the slices: heads %+v", h)
	}
	dead := New([]Backup{full("A", 5, 10), slice(10, 20), full("B", 12, 15)}, []Gap{{From: at(20)}})
	if h, _ := dead.Head(); h.End != at(20) {
		t.Errorf("only a dead run: head %+v", h)
	}
	dead = New([]Backup{full("A", 5, 10), slice(10, 30), full("B", 31, 35)}, []Gap{{From: at(30)}})
	if h, _ := dead.Head(); h.ID != "B" {
		t.Errorf("a live run beside a dead one: head %+v", h)
	}
	if n, ok := c.Newest(); !ok || n != at(20) {
		t.Errorf("newest %v", n)
	}
}

func TestParseMoment(t *testing.T) {
	cet := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 26, 15, 30, 10, 5, cet)
	sec := func(h, m, s int) bson.Timestamp {
		return EndOfSecond(time.Date(2026, 11, 26, h, m, s, 0, cet).Unix())
	}
	day := uint32(86400)
	for _, tc := range []struct {
		text string
		want Moment
	}{
		{"latest", Moment{Latest: true}},
		{"1522828344:2", Moment{TS: bson.NewTimestamp(1522828344, 2), Exact: true}},
		{"Timestamp(1522828344, 2)", Moment{TS: bson.NewTimestamp(1522828344, 2), Exact: true}},
		{"1522828344,2", Moment{TS: bson.NewTimestamp(1522828344, 2), Exact: true}},
		{"2026-11-26T14:00:00Z", Moment{TS: sec(15, 0, 0)}},
		{"2026-11-26T14:00:00+01:00", Moment{TS: sec(14, 0, 0)}},
		{"2026-11-26 14:00:07", Moment{TS: sec(14, 0, 7)}},
		{"2026-11-26 14:00", Moment{TS: sec(14, 0, 0)}},
		{"14:00", Moment{TS: sec(14, 0, 0)}},
		{"yesterday 14:00", Moment{TS: bson.NewTimestamp(sec(14, 0, 0).Seconds()-day, 1<<32-1)}},
		{"90m ago", Moment{TS: sec(14, 0, 10)}},
		{"1d30m ago", Moment{TS: bson.NewTimestamp(sec(15, 0, 10).Seconds()-day, 1<<32-1)}},
		{"-2h", Moment{TS: sec(13, 30, 10)}},
	} {
		got, err := ParseMoment(tc.text, now, cet)
		if err != nil || got != tc.want {
			t.Errorf("%q: %+v, %v; want %+v", tc.text, got, err, tc.want)
		}
	}
	for _, bad := range []string{"", "soon", "2026-11-26", "99999999999:1", "2026-11-26T14:00:00.5Z", "5 parsecs ago", "1850-01-01 00:00", "yesterday"} {
		if m, err := ParseMoment(bad, now, cet); err == nil {
			t.Errorf("%q was read as %+v", bad, m)
		}
	}
}

func FuzzParseMoment(f *testing.F) {
	for _, s := range []string{"latest", "1:2", "2026-11-26T14:00:00Z", "90m ago", "yesterday 1:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMoment(s, time.Unix(1e9, 0), time.UTC)
		if err == nil && !m.Latest && m.Exact {
			again, err := ParseMoment(Text(m.TS), time.Unix(1e9, 0), time.UTC)
			if err == nil && again.Exact && again != m {
				t.Fatalf("%q: %+v is read back as %+v", s, m, again)
			}
		}
	})
}

func TestRetain(t *testing.T) {
	hour := uint32(3600)
	base := uint32(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Unix())
	var bs []Backup
	for h := range uint32(10 * 4) { // a full every six hours over ten days, a slice between them
		end := base + h*6*hour
		bs = append(bs, full(fmt.Sprint("F", h), end-10, end))
		if h < 39 {
			bs = append(bs, slice(end, end+6*hour))
		}
	}
	bs = append(bs, slice(base+39*6*hour, base+39*6*hour+60))
	c := New(bs, nil)
	for _, tc := range []struct {
		name   string
		p      Policy
		fulls  string
		slices int
	}{
		{"last", Policy{Last: 2}, "F38 F39", 2},
		{"daily", Policy{Daily: 3}, "F31 F35 F39", 1},
		{"within", Policy{Within: 24 * time.Hour}, "F35 F36 F37 F38 F39", 5},
		{"weekly", Policy{Weekly: 2}, "F31 F39", 1},
		{"monthly and last", Policy{Last: 1, Monthly: 5}, "F39", 1},
	} {
		ds, err := c.Retain(tc.p, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		var kept []Backup
		var fulls []string
		n := 0
		for _, d := range ds {
			if !d.Keep {
				continue
			}
			kept = append(kept, d.Backup)
			if d.Backup.Kind == Full {
				fulls = append(fulls, d.Backup.ID)
			} else {
				n++
			}
			if len(d.Reasons) == 0 {
				t.Errorf("%s: %s is kept for no reason", tc.name, d.Backup.ID)
			}
		}
		if got := strings.Join(fulls, " "); got != tc.fulls || n != tc.slices {
			t.Errorf("%s: keeps %s and %d slices, want %s and %d", tc.name, got, n, tc.fulls, tc.slices)
		}
		after := New(kept, nil)
		newest, _ := c.Newest()
		if n, ok := after.Newest(); !ok || n != newest {
			t.Errorf("%s: the newest moment went from %v to %v", tc.name, newest, n)
		}
		if tc.p.Within > 0 {
			for ts := newest.TS.Seconds() - uint32(tc.p.Within.Seconds()); ts <= newest.TS.Seconds(); ts += 600 {
				if !after.Covers(bson.NewTimestamp(ts, 1)) {
					t.Errorf("%s: %d is no longer covered", tc.name, ts)
				}
			}
		}
		for _, b := range kept {
			if b.Kind == Full && !after.Covers(b.End.TS) {
				t.Errorf("%s: %s cannot be restored", tc.name, b.ID)
			}
		}
	}
	if _, err := c.Retain(Policy{}, time.UTC); err == nil {
		t.Error("an empty policy was accepted")
	}
}
