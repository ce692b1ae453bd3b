package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The data directory:
//
//	cairn.lock   locked while an engine has the directory open
//	VERSION      "cairn format N\n": the version of everything below
//	journal/     the journal's segments
//	engine/      Pebble's files
//	tmp/         spilled runs and the like; emptied at every start
const (
	lockFile    = "cairn.lock"
	versionFile = "VERSION"
	journalDir  = "journal"
	engineDir   = "engine"
	tmpDir      = "tmp"

	// FormatVersion is the version of the data directory that this program
	// writes and the newest that it reads.
	FormatVersion = 1

	versionPrefix = "cairn format "
)

// lockDir takes the directory for this engine alone.
func lockDir(fs vfs.FS, dir string) (io.Closer, error) {
	l, err := fs.Lock(fs.PathJoin(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %s is locked, is another cairn running on it? (%w)", ErrLocked, dir, err)
	}
	return l, nil
}

// checkVersion refuses a directory that is newer than this program or not
// Cairn's, and marks a new one before anything else is written to it.
func checkVersion(fs vfs.FS, dir string, readOnly bool) (version int, err error) {
	name := fs.PathJoin(dir, versionFile)
	b, err := readFile(fs, name)
	if err == nil {
		return parseVersion(dir, string(b))
	}
	if !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("storage: read %s: %w", name, err)
	}
	if readOnly {
		return 0, fmt.Errorf("%w: %s holds no cairn data", ErrVersion, dir)
	}
	names, err := fs.List(dir)
	if err != nil {
		return 0, fmt.Errorf("storage: list %s: %w", dir, err)
	}
	for _, n := range names {
		switch n {
		case "WiredTiger", "WiredTiger.wt", "storage.bson":
			return 0, fmt.Errorf("%w: %s holds the files of a mongod (%s), not cairn's", ErrVersion, dir, n)
		case journalDir, engineDir:
			return 0, fmt.Errorf("%w: %s has %s but no %s file", ErrVersion, dir, n, versionFile)
		}
	}
	return FormatVersion, writeVersion(fs, dir, name)
}

func parseVersion(dir, s string) (int, error) {
	num, ok := strings.CutPrefix(strings.TrimSpace(s), versionPrefix)
	v, err := strconv.Atoi(num)
	if !ok || err != nil || v < 1 {
		return 0, fmt.Errorf("%w: %s of %s says %q", ErrVersion, versionFile, dir, s)
	}
	if v > FormatVersion {
		return 0, fmt.Errorf("%w: %s has format %d, this program reads up to %d: use a newer cairn", ErrVersion, dir, v, FormatVersion)
	}
	return v, nil
}

// writeVersion creates the file whole or not at all.
func writeVersion(fs vfs.FS, dir, name string) error {
	tmp := name + ".tmp"
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("storage: create %s: %w", tmp, err)
	}
	_, err = f.Write([]byte(versionPrefix + strconv.Itoa(FormatVersion) + "\n"))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = fs.Rename(tmp, name)
	}
	if err == nil {
		err = syncDir(fs, dir)
	}
	if err != nil {
		return fmt.Errorf("storage: write %s: %w", name, err)
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// syncParent makes the name of a new data directory durable. The parent may
// belong to someone else who lets nobody open it: then it is as durable as
// they made it.
func syncParent(fs vfs.FS, dir string) {
	if d, err := fs.OpenDir(fs.PathDir(dir)); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// makeDataDir creates the data directory and makes its name durable, and those
// of the directories above it that had to be made.
func makeDataDir(fs vfs.FS, dir string) error {
	var parents []string
	for d := dir; ; d = fs.PathDir(d) {
		_, err := fs.Stat(d)
		if err == nil || d == fs.PathDir(d) {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("storage: %w", err)
		}
		parents = append(parents, fs.PathDir(d))
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("storage: make %s: %w", dir, err)
	}
	for _, p := range parents {
		if err := syncDir(fs, p); err != nil {
			return fmt.Errorf("storage: sync %s: %w", p, err)
		}
	}
	return nil
}

// makeDirs creates the directories and makes their names durable: Pebble and
// the journal sync what is in them, nobody else syncs them.
func makeDirs(fs vfs.FS, dir string) error {
	for _, d := range []string{journalDir, engineDir, tmpDir} {
		if err := fs.MkdirAll(fs.PathJoin(dir, d), 0o755); err != nil {
			return fmt.Errorf("storage: make %s: %w", d, err)
		}
	}
	return syncDir(fs, dir)
}

// emptyTmp removes what a crash left in the directory of temporary files.
func emptyTmp(fs vfs.FS, dir string) error {
	tmp := fs.PathJoin(dir, tmpDir)
	names, err := fs.List(tmp)
	if err != nil {
		return fmt.Errorf("storage: list %s: %w", tmp, err)
	}
	for _, n := range names {
		if err := fs.RemoveAll(fs.PathJoin(tmp, n)); err != nil {
			return fmt.Errorf("storage: remove %s: %w", n, err)
		}
	}
	return nil
}
