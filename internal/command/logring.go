package command

import "sync"

// LogRing keeps the newest log lines for getLog.
type LogRing struct {
	mu    sync.Mutex
	lines []string
	next  int
	total int64
}

// NewLogRing keeps n lines.
func NewLogRing(n int) *LogRing { return &LogRing{lines: make([]string, 0, n)} }

// Write takes one line; it is an io.Writer for a log handler.
func (r *LogRing) Write(p []byte) (int, error) {
	line := string(p)
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	if len(r.lines) < cap(r.lines) {
		r.lines = append(r.lines, line)
		return len(p), nil
	}
	r.lines[r.next] = line
	r.next = (r.next + 1) % len(r.lines)
	return len(p), nil
}

// Lines returns the kept lines, oldest first, and how many were ever written.
func (r *LogRing) Lines() ([]string, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append([]string(nil), r.lines[r.next:]...), r.lines[:r.next]...), r.total
}
