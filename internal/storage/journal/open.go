package journal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// defaultPreallocate is what is written ahead on a real disk.
const defaultPreallocate = 256 << 10

// TornTail is what a crash left behind the last whole unit: Open cuts it off,
// or leaves it out if it opens read-only.
type TornTail struct {
	Bytes  int64  // from the cut to the end of what was found behind it
	File   string // the file that it begins in; empty if there is none
	Offset int64  // the offset of the cut in it
}

// Open opens or creates the journal in o.Dir and brings it to its last whole
// unit. Records behind the first damaged one are cut if that one may never have
// been synced; if it had been, Open fails with a *CorruptionError. What Open
// leaves is synced, whoever wrote it. Read-only it creates, cuts and syncs
// nothing.
func Open(o Options) (*Journal, error) {
	o.ensureDefaults()
	if o.ReadOnly {
		return openReadOnly(o)
	}
	if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("journal: create %s: %w", o.Dir, err)
	}
	if err := syncDir(o.FS, o.FS.PathDir(o.Dir)); err != nil {
		return nil, err
	}
	dir, err := o.FS.OpenDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("journal: open %s: %w", o.Dir, err)
	}
	j := &Journal{opt: o, dir: dir}
	j.durable.Store(&Mark{})
	if err := j.recover(); err != nil {
		j.closeFiles()
		return nil, err
	}
	return j, nil
}

func openReadOnly(o Options) (*Journal, error) {
	j := &Journal{opt: o}
	j.durable.Store(&Mark{})
	found, err := j.listSegments()
	if err != nil {
		return nil, err
	}
	if j.mu.segs, err = j.checkChain(found); err != nil {
		return nil, err
	}
	var mark Mark
	if len(j.mu.segs) == 0 {
		j.mu.segs = []*segment{j.newSegment(segmentHeader{})}
	} else if mark, err = j.scanTail(found); err != nil {
		return nil, err
	} else if err := j.leaveOut(mark, found); err != nil {
		return nil, err
	}
	j.mu.appended, j.mu.bufPos = mark, mark.Pos
	j.durable.Store(&mark)
	return j, j.loadFirstTS()
}

func (j *Journal) closeFiles() {
	for _, seg := range j.mu.segs {
		if seg.file != nil {
			_ = seg.file.Close()
		}
	}
	_ = j.dir.Close()
}

func syncDir(fs vfs.FS, path string) error {
	d, err := fs.OpenDir(path)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("journal: sync directory %s: %w", path, err)
	}
	return nil
}

// recover runs alone: the fields behind the locks are touched without them.
func (j *Journal) recover() error {
	found, err := j.listSegments()
	if err != nil {
		return err
	}
	j.mu.segs, err = j.checkChain(found)
	if err != nil {
		return err
	}
	var mark Mark
	if len(j.mu.segs) == 0 {
		seg := j.newSegment(segmentHeader{})
		seg.table.complete = true
		j.mu.segs = []*segment{seg}
		if err := j.createSegment(seg); err != nil {
			return fmt.Errorf("journal: create %s: %w", seg.path, err)
		}
		if err := seg.file.Sync(); err != nil {
			return fmt.Errorf("journal: sync %s: %w", seg.path, err)
		}
	} else if mark, err = j.scanTail(found); err != nil {
		return err
	} else if err := j.cut(mark, found); err != nil {
		return err
	}
	if err := j.dir.Sync(); err != nil {
		return fmt.Errorf("journal: sync %s: %w", j.opt.Dir, err)
	}
	j.wmu.dirDirty = false
	j.mu.appended, j.mu.bufPos = mark, mark.Pos
	j.durable.Store(&mark)
	active := j.mu.segs[len(j.mu.segs)-1]
	if j.opt.Preallocate == 0 && active.file.Fd() != vfs.InvalidFd {
		j.opt.Preallocate = defaultPreallocate
	}
	return j.loadFirstTS()
}

// foundSegment is a file of the journal as Open met it.
type foundSegment struct {
	*segment
	size  int64
	valid bool // the header is whole
}

// listSegments reads the headers of all segment files, in order. Left-over
// temporary files are removed.
func (j *Journal) listSegments() ([]foundSegment, error) {
	names, err := j.opt.FS.List(j.opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("journal: list %s: %w", j.opt.Dir, err)
	}
	if !j.opt.ReadOnly {
		if err := j.removeOrphans(names); err != nil {
			return nil, err
		}
	}
	var found []foundSegment
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix+tempSuffix) {
			if j.opt.ReadOnly {
				continue
			}
			if err := j.opt.FS.Remove(j.opt.FS.PathJoin(j.opt.Dir, name)); err != nil {
				return nil, fmt.Errorf("journal: remove %s: %w", name, err)
			}
			continue
		}
		base, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		fs, err := j.readSegmentHeader(base)
		if err != nil {
			return nil, err
		}
		found = append(found, fs)
	}
	slices.SortFunc(found, func(a, b foundSegment) int {
		if a.base < b.base {
			return -1
		}
		return 1
	})
	return found, nil
}

func (j *Journal) readSegmentHeader(base Pos) (foundSegment, error) {
	fs := foundSegment{segment: j.newSegment(segmentHeader{base: base})}
	f, err := j.opt.FS.Open(fs.path)
	if err != nil {
		return fs, fmt.Errorf("journal: open %s: %w", fs.path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fs, fmt.Errorf("journal: stat %s: %w", fs.path, err)
	}
	fs.size = info.Size()
	var b [segmentHeaderLen]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fs, fmt.Errorf("journal: read %s: %w", fs.path, err)
	}
	h, ok, err := decodeSegmentHeader(b[:n])
	if err != nil {
		return fs, fmt.Errorf("%s: %w", fs.path, err)
	}
	if ok && h.base == base {
		fs.segmentHeader = h
		fs.valid = true
	}
	return fs, nil
}

// syncedBound is how far the journal is known to have been synced, from the
// headers alone.
func syncedBound(found []foundSegment) Pos {
	var bound Pos
	for _, s := range found {
		if s.valid {
			bound = max(bound, s.synced)
		}
	}
	return bound
}

// checkChain checks the headers and lengths of the segments that are known to
// have been synced whole and returns the unbroken run from the first one on.
// Where the run breaks behind the synced part, the rest is a torn tail.
func (j *Journal) checkChain(found []foundSegment) ([]*segment, error) {
	bound := syncedBound(found)
	var run []*segment
	for i, s := range found {
		broken := ""
		switch {
		case !s.valid:
			broken = "segment header is damaged"
		case i > 0 && s.prevIndex < found[i-1].prevIndex:
			broken = "segment header goes back"
		}
		if broken == "" && i+1 < len(found) {
			next := found[i+1]
			if s.size < s.offset(next.base) && next.base <= bound {
				return nil, &CorruptionError{s.path, s.size, fmt.Sprintf("the file ends before position %d, where %s begins", next.base, next.path)}
			}
			s.end = next.base
		}
		if broken == "" {
			run = append(run, s.segment)
			continue
		}
		// The first file's header is synced before anything is appended.
		if s.base < bound || i == 0 && (len(found) > 1 || s.base > 0 || s.size > segmentHeaderLen) {
			return nil, &CorruptionError{s.path, 0, broken}
		}
		break
	}
	return run, nil
}

// scanTail verifies every segment that may hold records that were never synced
// and returns the end of the last whole unit.
func (j *Journal) scanTail(found []foundSegment) (Mark, error) {
	segs := j.mu.segs
	at := len(segs) - 1
	for bound := syncedBound(found); at > 0 && segs[at].base > bound; {
		at--
	}
	sc := scan{j: j, mark: Mark{segs[at].base, segs[at].prevIndex, segs[at].prevTS}}
	for i := at; i < len(segs); i++ {
		whole, err := sc.segment(segs[i], i == len(segs)-1)
		if err != nil {
			return Mark{}, err
		}
		if !whole {
			break
		}
	}
	if err := sc.checkTorn(found); err != nil {
		return Mark{}, err
	}
	return sc.mark, nil
}
