package picture

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/bson"
)

func at(t uint32) chain.OpTime { return chain.OpTime{TS: bson.NewTimestamp(t, 1), Term: 1} }

func sample() *chain.Coverage {
	const h = 3600
	base := uint32(time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC).Unix())
	b := func(id string, k chain.Kind, from, to uint32) chain.Backup {
		return chain.Backup{ID: id, Kind: k, Start: at(base + from), End: at(base + to), Bytes: 1 << 20, Entries: 7}
	}
	return chain.New([]chain.Backup{
		b("F1", chain.Full, 0, 60), b("S1", chain.Slice, 60, 2*h), b("S2", chain.Slice, 2*h, 4*h),
		b("F2", chain.Full, 6*h, 6*h+60), b("S3", chain.Slice, 6*h+60, 10*h),
	}, []chain.Gap{{ID: "g", From: at(base + 4*h), To: at(base + 5*h), Why: "the oplog was <overrun>"}})
}

func TestTerminal(t *testing.T) {
	var b bytes.Buffer
	if err := Terminal(&b, sample(), Style{Width: 60, ASCII: true}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	for i, want := range []string{
		" F                                 F",
		" ========================xxxxx     ========================",
	} {
		if lines[i] != want {
			t.Errorf("line %d\n%q, want\n%q", i, lines[i], want)
		}
	}
	for _, s := range []string{
		"restorable: every moment from 1795651260:1 (2026-11-26T00:01:00Z) to 1795665600:1 (2026-11-26T04:00:00Z), both inclusive",
		"GAP:        after 1795665600:1", "the oplog was <overrun>",
	} {
		if !strings.Contains(b.String(), s) {
			t.Errorf("no %q in\n%s", s, b.String())
		}
	}
	b.Reset()
	if err := Terminal(&b, chain.New(nil, nil), Style{}); err != nil || !strings.Contains(b.String(), "nothing is backed up") {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// A gap of a second in a year must be seen.
func TestShortGapTakesAColumn(t *testing.T) {
	c := chain.New([]chain.Backup{
		{ID: "F1", Kind: chain.Full, Start: at(1), End: at(1)}, {ID: "S1", Kind: chain.Slice, Start: at(1), End: at(15e6)},
		{ID: "F2", Kind: chain.Full, Start: at(15e6 + 2), End: at(15e6 + 2)}, {ID: "S2", Kind: chain.Slice, Start: at(15e6 + 2), End: at(30e6)},
	}, []chain.Gap{{From: at(15e6), To: at(15e6 + 1)}})
	var b bytes.Buffer
	if err := Terminal(&b, c, Style{Width: 80, ASCII: true}); err != nil {
		t.Fatal(err)
	}
	if line := strings.Split(b.String(), "\n")[1]; strings.Count(line, "x") != 1 || strings.Count(line, "=") != 77 {
		t.Errorf("%q", line)
	}
}

func TestHTMLIsWellFormedAndSelfContained(t *testing.T) {
	var b bytes.Buffer
	p := Page{Repository: "file:///b?<script>", Source: "rs0", Made: time.Unix(1e9, 0), Coverage: sample()}
	if err := HTML(&b, p); err != nil {
		t.Fatal(err)
	}
	s := b.String()
	for _, bad := range []string{"<script", "src=", "href=", "<overrun>", "ZgotmplZ", "@import"} {
		if strings.Contains(s, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, w := range []string{"1795665600:1", "F1", "gap", "1.0 MB"} {
		if !strings.Contains(s, w) {
			t.Errorf("the page does not show %q", w)
		}
	}
	d := xml.NewDecoder(strings.NewReader(s[strings.Index(s, "<svg"):strings.Index(s, "</svg>")] + "</svg>"))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	b.Reset()
	if err := HTML(&b, Page{Coverage: chain.New(nil, nil)}); err != nil || !strings.Contains(b.String(), "Nothing can be restored") {
		t.Errorf("empty: %v", err)
	}
}
