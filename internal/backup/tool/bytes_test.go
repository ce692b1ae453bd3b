package tool

import (
	"bytes"
	"strings"
	"testing"
)

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1.00KB", 12700: "12.4KB", 127488: "124KB", 1 << 20: "1.00MB", 5 << 40: "5120GB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	var said bytes.Buffer
	p := NewProgress(NewLog(&said, 0), ProgressOptions{})
	b := p.StartBytes("d.c", 2048)
	b.Add(1024)
	p.lines()
	p.Stop()
	if !strings.Contains(said.String(), "[############............]  d.c  1.00KB/2.00KB  (50.0%)") {
		t.Error(said.String())
	}
}
