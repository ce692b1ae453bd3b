package tool

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// Progress shows how far each namespace is: bars with rate and remaining time on a
// terminal, a line a namespace every three seconds elsewhere. It is safe for concurrent
// use; a nil Progress shows nothing.
type Progress struct {
	log   *Log
	mu    sync.Mutex
	bars  []*Bar
	mpb   *mpb.Progress
	term  *os.File // where the bars are
	done  chan struct{}
	ended chan struct{}
}

// ProgressOptions says how Progress looks.
type ProgressOptions struct {
	// Terminal draws bars there if it is a terminal and the log is not silenced; nil or
	// another kind of file means lines in the log.
	Terminal *os.File
	// Every is the time between lines, 3 s if 0.
	Every time.Duration
}

// barRefresh is how often the bars of a terminal move.
const barRefresh = 200 * time.Millisecond

// NewProgress starts showing; Stop ends it.
func NewProgress(log *Log, o ProgressOptions) *Progress {
	if o.Every <= 0 {
		o.Every = 3 * time.Second
	}
	p := &Progress{log: log, done: make(chan struct{}), ended: make(chan struct{})}
	every, show := o.Every, p.lines
	if o.Terminal != nil && log.Enabled(0) && term.IsTerminal(int(o.Terminal.Fd())) {
		p.mpb = mpb.New(mpb.WithOutput(o.Terminal), mpb.WithRefreshRate(barRefresh), mpb.WithWidth(100))
		log.swap(p.mpb)
		every, show = barRefresh, p.push
		p.term = o.Terminal
	}
	go func() {
		defer close(p.ended)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				show()
			case <-p.done:
				return
			}
		}
	}()
	return p
}

// Bar counts one namespace. A nil Bar counts nothing.
type Bar struct {
	p        *Progress
	name     string
	n, total atomic.Int64
	bytes    bool // n and total are bytes
	rendered bool // a line was printed: the last one is too
	bar      *mpb.Bar
}

// Start begins a namespace. total is in documents, 0 if it is not known.
func (p *Progress) Start(name string, total int64) *Bar { return p.start(name, total, false) }

// StartBytes begins a namespace that is counted in bytes.
func (p *Progress) StartBytes(name string, total int64) *Bar { return p.start(name, total, true) }

func (p *Progress) start(name string, total int64, bytes bool) *Bar {
	if p == nil {
		return nil
	}
	b := &Bar{p: p, name: name, bytes: bytes}
	b.total.Store(total)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mpb != nil {
		counters, speed := decor.CountersNoUnit("%d/%d", decor.WCSyncSpace), decor.AverageSpeed(0, "%.0f/s", decor.WCSyncSpace)
		if bytes {
			counters, speed = decor.CountersKibiByte("% .1f/% .1f", decor.WCSyncSpace), decor.AverageSpeed(decor.SizeB1024(0), "% .1f", decor.WCSyncSpace)
		}
		b.bar = p.mpb.AddBar(total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(counters, decor.Percentage(decor.WCSyncSpace), speed, decor.AverageETA(decor.ET_STYLE_MMSS, decor.WCSyncSpace)))
	}
	p.bars = append(p.bars, b)
	return b
}

// Add counts documents.
func (b *Bar) Add(n int64) {
	if b != nil {
		b.n.Add(n)
	}
}

// Count is what Add has counted.
func (b *Bar) Count() int64 {
	if b == nil {
		return 0
	}
	return b.n.Load()
}

// SetTotal corrects the total.
func (b *Bar) SetTotal(n int64) {
	if b != nil {
		b.total.Store(n)
	}
}

// Done ends the namespace. A namespace that had a line gets a last one.
func (b *Bar) Done() {
	if b == nil {
		return
	}
	p := b.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, o := range p.bars {
		if o == b {
			p.bars = append(p.bars[:i:i], p.bars[i+1:]...)
			break
		}
	}
	if b.bar != nil {
		b.bar.SetCurrent(b.n.Load())
		b.bar.SetTotal(b.n.Load(), true)
	} else if b.rendered {
		p.write([][]string{b.row()})
	}
}

// Stop ends the showing. Bars that are not done disappear.
func (p *Progress) Stop() {
	if p == nil {
		return
	}
	close(p.done)
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mpb != nil {
		for _, b := range p.bars {
			b.bar.Abort(true)
		}
		// What was logged last is written with the next picture, so there must be one: Wait
		// waits until this bar was in it.
		p.mpb.AddBar(1, mpb.BarRemoveOnComplete()).SetCurrent(1)
		p.mpb.Wait()
		p.log.swap(p.term)
	}
}

// push gives the bars of the terminal their counts.
func (p *Progress) push() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.bars {
		b.bar.SetCurrent(b.n.Load())
	}
}

// lines logs a line a namespace, in columns, and an empty one after several.
func (p *Progress) lines() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rows [][]string
	for _, b := range p.bars {
		b.rendered = true
		rows = append(rows, b.row())
	}
	p.write(rows)
	if len(rows) > 1 {
		p.log.Always("")
	}
}

// barLength is the number of characters between a line's brackets.
const barLength = 24

func (b *Bar) row() []string {
	n, total := b.n.Load(), b.total.Load()
	text := func(n int64) string { return fmt.Sprint(n) }
	if b.bytes {
		text = bytesText
	}
	if total == 0 {
		return []string{b.name, text(n)}
	}
	part := float64(n) / float64(total)
	full := int(max(0, min(part, 1)) * barLength)
	return []string{
		"[" + strings.Repeat("#", full) + strings.Repeat(".", barLength-full) + "]",
		b.name,
		text(n) + "/" + text(total),
		fmt.Sprintf("(%2.1f%%)", part*100),
	}
}

// write logs rows with their columns aligned to the right, two spaces apart.
func (p *Progress) write(rows [][]string) {
	var width []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(cell))
		}
	}
	for _, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(strings.Repeat(" ", width[i]-len(cell)))
			line.WriteString(cell)
		}
		p.log.Always("%s", line.String())
	}
}

// bytesText writes a number of bytes with three digits, as the originals do: 124KB, 1.02GB.
func bytesText(n int64) string {
	units := []string{"B", "KB", "MB", "GB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	digits := 0
	for lim := 100.0; i > 0 && f < lim && digits < 2; lim /= 10 {
		digits++
	}
	return fmt.Sprintf("%.*f%s", digits, f, units[i])
}
