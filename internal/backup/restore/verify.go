package restore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cairndb/cairn/internal/backup/tool"
)

// expectation is what the manifest of a dump says it holds. nil expects nothing.
type expectation struct {
	path    string // of the manifest
	root    string // the directory that names in it begin at
	docs    map[string]int64
	files   map[string]fileSum // by the name in the manifest
	archive *fileSum
	entries int64 // of the oplog, -1 if it has none
}

type fileSum struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// manifestName is the file of a dump directory that says what the dump holds; an
// archive's has the archive's name before it.
const manifestName = "manifest.json"

// loadManifest reads the manifest that belongs to what is restored, if there is one.
func (r *Restore) loadManifest() error {
	if r.o.Original || r.o.Own.NoVerify {
		return nil
	}
	var paths []string
	switch {
	case r.o.Input.Archive == "-" || r.o.Target == "-":
		return nil
	case r.o.Input.Archive != "":
		paths = []string{r.o.Input.Archive + "." + manifestName}
	default:
		dir := r.plan.dumpDir
		if dir == "" {
			dir = filepath.Dir(filepath.Dir(r.o.Target)) // of dump/db/collection.bson
		}
		paths = []string{filepath.Join(dir, manifestName)}
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the manifest of the dump: %w", err)
		}
		return r.useManifest(path, text)
	}
	return nil
}

func (r *Restore) useManifest(path string, text []byte) error {
	var m struct {
		Format      int `json:"format"`
		Collections []struct {
			Namespace string `json:"namespace"`
			Documents int64  `json:"documents"`
			Dropped   bool   `json:"dropped"`
		} `json:"collections"`
		Files []fileSum `json:"files"`
		Oplog *struct {
			Entries int64 `json:"entries"`
		} `json:"oplog"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("the manifest %s cannot be read: %w; --noVerify restores without it", path, err)
	}
	if m.Format != 1 {
		return fmt.Errorf("the manifest %s has form %d, this program knows 1; --noVerify restores without it", path, m.Format)
	}
	e := &expectation{path: path, root: filepath.Dir(path), docs: map[string]int64{}, files: map[string]fileSum{}, entries: -1}
	if m.Oplog != nil {
		e.entries = m.Oplog.Entries
	}
	for _, f := range m.Files {
		e.files[f.Path] = f
	}
	if r.archive != nil {
		if f, ok := e.files[filepath.Base(r.o.Input.Archive)]; ok {
			e.archive = &f
		}
	}
	for _, c := range m.Collections {
		if c.Dropped {
			continue
		}
		e.docs[c.Namespace] = c.Documents
		if r.archive != nil || r.plan.bySource[c.Namespace] != nil || !r.wants(c.Namespace) {
			continue
		}
		return fmt.Errorf("the manifest %s names `%s`, which the dump does not hold; --noVerify restores without it", path, c.Namespace)
	}
	r.expect = e
	return r.checkSizes()
}

// wants says whether a namespace of the manifest would be restored if it were there.
func (r *Restore) wants(ns string) bool {
	db, coll, _ := strings.Cut(ns, ".")
	if r.o.Namespace.Collection != "" || r.o.Namespace.DB != "" && db != r.o.Namespace.DB || db == "admin" && strings.HasPrefix(coll, "system.") {
		return false
	}
	if strings.HasPrefix(coll, "system.profile") || strings.HasPrefix(coll, "$") {
		return false
	}
	_, keep := r.rules.Namespace(ns)
	return keep
}

// checkSizes compares the sizes of the files before anything is changed.
func (r *Restore) checkSizes() error {
	if f := r.expect.archive; f != nil {
		fi, err := os.Stat(r.o.Input.Archive)
		if err != nil {
			return err
		}
		return sizeError(r.o.Input.Archive, fi.Size(), *f)
	}
	tasks := append([]*task{r.plan.users, r.plan.roles, r.plan.version, r.plan.oplog}, r.plan.tasks...)
	for _, t := range tasks {
		if t == nil || t.path == "" {
			continue
		}
		if f, ok := r.expect.file(t.path); ok {
			if err := sizeError(t.path, t.size, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func sizeError(path string, size int64, f fileSum) error {
	if size == f.Size {
		return nil
	}
	return fmt.Errorf("%s has %d bytes, the manifest of the dump says %d: the file is damaged; --noVerify restores what is there", path, size, f.Size)
}

// file returns what the manifest says of a file.
func (e *expectation) file(path string) (fileSum, bool) {
	if e == nil {
		return fileSum{}, false
	}
	rel, err := filepath.Rel(e.root, path)
	if err != nil {
		return fileSum{}, false
	}
	f, ok := e.files[filepath.ToSlash(rel)]
	return f, ok
}

// digest computes the checksum of an input while it is read.
func (in *input) digest() { in.hash = sha256.New() }

// check compares what was read with what the manifest says. What is left of the file
// behind its documents is read too.
func (in *input) check(path string, f fileSum) error {
	if in.hash == nil || f.SHA256 == "" {
		return nil
	}
	if _, err := io.Copy(io.Discard, in.raw); err != nil {
		return err
	}
	if got := hex.EncodeToString(in.hash.(hash.Hash).Sum(nil)); got != f.SHA256 {
		return fmt.Errorf("%s has the SHA-256 %s, the manifest of the dump says %s: the file is damaged; --noVerify restores what is there", path, got, f.SHA256)
	}
	return nil
}

// checkMetadataSum compares metadata with the manifest, before they are used.
func (r *Restore) checkMetadataSum(t *task) error {
	f, ok := r.expect.file(t.metaPath)
	if !ok || t.metaPath == "" {
		return nil
	}
	in, err := openFile(t.metaPath, plain)
	if err != nil {
		return err
	}
	in.digest()
	return errors.Join(in.check(t.metaPath, f), in.Close())
}

// checkCount compares how many documents of a collection there were.
func (r *Restore) checkCount(t *task, read int64) error {
	if r.expect == nil {
		return nil
	}
	want, ok := r.expect.docs[t.src]
	if !ok || want == read {
		return nil
	}
	return fmt.Errorf("`%s` has %s in the dump, its manifest says %d; --noVerify restores what is there", t.src, tool.Count(read, "document", "documents"), want)
}

// verify checks the archive as a whole.
func (r *Restore) verify() error {
	if r.expect == nil || r.expect.archive == nil {
		return nil
	}
	return r.in.check(r.o.Input.Archive, *r.expect.archive)
}
