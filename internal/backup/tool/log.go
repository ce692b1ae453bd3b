package tool

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// timeFormat is the originals' time stamp.
const timeFormat = "2006-01-02T15:04:05.000-0700"

// Log writes lines with a time stamp, those whose level is wanted. It is safe for
// concurrent use; a nil Log writes nothing.
type Log struct {
	mu    sync.Mutex
	w     io.Writer
	level int
}

// NewLog returns a log to w. level is 0 without -v, 1 for -v and so on, -1 for --quiet.
func NewLog(w io.Writer, level int) *Log {
	if w == nil {
		w = os.Stderr
	}
	return &Log{w: w, level: level}
}

// Enabled says whether lines of the level are written: 0 Always, 1 Info, 2 Debug, 3 DebugHigh.
func (l *Log) Enabled(level int) bool { return l != nil && level <= l.level }

// Always logs unless --quiet.
func (l *Log) Always(format string, args ...any) { l.line(0, format, args) }

// Info logs with -v.
func (l *Log) Info(format string, args ...any) { l.line(1, format, args) }

// Debug logs with -vv.
func (l *Log) Debug(format string, args ...any) { l.line(2, format, args) }

// DebugHigh logs with -vvv.
func (l *Log) DebugHigh(format string, args ...any) { l.line(3, format, args) }

// swap sends the lines to another writer and returns the one they went to: the progress
// bars redraw themselves around a line.
func (l *Log) swap(w io.Writer) io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.w
	l.w = w
	return old
}

// line writes one line, or lets it be: there is nowhere to report a log that fails to.
func (l *Log) line(level int, format string, args []any) {
	if !l.Enabled(level) {
		return
	}
	msg := format
	if len(args) > 0 {
		msg = fmt.Sprintf(format, args...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.w, "%v\t%v\n", time.Now().Format(timeFormat), msg)
}
