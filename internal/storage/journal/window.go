package journal

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// windowSize is how much of a file is held at once while it is scanned.
const windowSize = 1 << 20

// window gives random access to a file that is mostly read forward, without
// holding all of it.
type window struct {
	f       vfs.File
	size    int64
	start   int64
	buf     []byte
	scratch scratch
}

func openWindow(fs vfs.FS, path string) (*window, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &window{f: f, size: info.Size()}, nil
}

// at returns the n bytes at off, or as many as the file has there. They are
// valid until the next call.
func (w *window) at(off, n int64) ([]byte, error) {
	if off >= w.size {
		return nil, nil
	}
	n = min(n, w.size-off)
	if off < w.start || off+n > w.start+int64(len(w.buf)) {
		if err := w.fill(off, n); err != nil {
			return nil, err
		}
		n = min(n, int64(len(w.buf)))
	}
	return w.buf[off-w.start:][:n], nil
}

func (w *window) fill(off, n int64) error {
	n = min(max(n, windowSize), w.size-off)
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	w.buf, w.start = w.buf[:n], off
	got, err := w.f.ReadAt(w.buf, off)
	w.buf = w.buf[:got]
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (w *window) close() { _ = w.f.Close() }

// lastNonZero returns the offset behind the last byte at or behind off that is
// not zero, or off.
func (w *window) lastNonZero(off int64) (int64, error) {
	end := off
	for at := off; at < w.size; {
		b, err := w.at(at, windowSize)
		if err != nil {
			return end, err
		}
		if len(b) == 0 {
			break
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != 0 {
				end = at + int64(i) + 1
				break
			}
		}
		at += int64(len(b))
	}
	return end, nil
}
