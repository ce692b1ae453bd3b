package pitr

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/docsum"
	"github.com/cairndb/cairn/internal/backup/pitr/load"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/tool"
	"github.com/cairndb/cairn/internal/bson"
)

// VerifyOptions are the options of Verify.
type VerifyOptions struct {
	// Quick looks at every small object and at the presence and size of the packs, and reads no
	// data. Otherwise every byte is read, every entry parsed, every document counted.
	Quick bool
	// Percent of the packs is read in full instead of all, Turn chooses which.
	Percent float64
	Turn    int
}

// Verified is what Verify found.
type Verified struct {
	Stats    repo.VerifyStats
	Findings []repo.Finding // damage; notes are counted in Stats
	// Problems are chains and counts that are not as the manifests say.
	Problems []string
	// Gaps are recorded gaps that nothing covers; they are no damage.
	Gaps     []chain.Gap
	Backups  int
	Entries  int64
	Docs     int64
	Took     time.Duration
	Finished time.Time
}

// OK reports whether nothing is damaged.
func (v *Verified) OK() bool { return len(v.Findings) == 0 && len(v.Problems) == 0 }

// DamageError is a repository that did not pass.
type DamageError struct{ Found *Verified }

func (e *DamageError) Error() string {
	return fmt.Sprintf("the repository is damaged: %s, %s; what is named above cannot be relied upon, take a full backup into a new repository",
		tool.Count(len(e.Found.Findings), "object", "objects"), tool.Count(len(e.Found.Problems), "problem", "problems"))
}

// VerifyRecord is what is kept of a verification.
type VerifyRecord struct {
	Finished time.Time `json:"finished"`
	OK       bool      `json:"ok"`
	Quick    bool      `json:"quick,omitempty"`
	Backups  int       `json:"backups"`
	Findings int       `json:"findings"`
	Problems int       `json:"problems"`
	Seconds  float64   `json:"seconds"`
}

// Verify checks the repository: every object's checksum, that every chain is contiguous, that
// counts and hashes are those of the manifests. The result is recorded. The error is a *DamageError
// if something is wrong.
func (e *Env) Verify(ctx context.Context, o VerifyOptions, report func(string)) (v *Verified, err error) {
	started := time.Now()
	_, unlock, err := e.lock(ctx, repo.LockRequest{Kind: repo.Shared, Purpose: "verify"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	v = &Verified{}
	percent := 100.0
	switch {
	case o.Quick:
		percent = 0
	case o.Percent > 0:
		percent = o.Percent
	}
	add, done := e.bar("packs", 0)
	read := int64(0)
	v.Stats, err = e.Repo.Verify(ctx, repo.VerifyOptions{Percent: percent, Turn: o.Turn, Progress: func(s repo.VerifyStats) {
		add(s.PacksRead - read)
		read = s.PacksRead
	}}, func(f repo.Finding) {
		report(f.String())
		if !f.Kind.Note() {
			v.Findings = append(v.Findings, f)
		}
	})
	done()
	if err != nil {
		return nil, err
	}
	st, err := e.State(ctx)
	if err != nil {
		return nil, err
	}
	v.Backups, v.Gaps = len(st.Coverage.Backups), st.Coverage.OpenGaps()
	problem := func(format string, args ...any) {
		p := fmt.Sprintf(format, args...)
		report(p)
		v.Problems = append(v.Problems, p)
	}
	if !o.Quick {
		for _, b := range st.Coverage.Backups {
			if err := e.verifyBackup(ctx, st, b, v, problem); err != nil {
				return nil, err
			}
		}
	}
	v.Took, v.Finished = time.Since(started), e.now().UTC()
	rec := VerifyRecord{v.Finished, v.OK(), o.Quick, v.Backups, len(v.Findings), len(v.Problems), v.Took.Seconds()}
	if err := e.Repo.PutRecord(ctx, recordVerify, "last", rec); err != nil {
		return v, fmt.Errorf("recording the result: %w", err)
	}
	if !v.OK() {
		return v, &DamageError{v}
	}
	return v, nil
}

// verifyBackup reads one backup to its end. Damage is a problem, other errors end it.
func (e *Env) verifyBackup(ctx context.Context, st *State, b chain.Backup, v *Verified, problem func(string, ...any)) error {
	m := st.Manifests[b.ID]
	add, done := e.bar(string(b.Kind)+" "+b.ID, 0)
	defer done()
	if b.Kind != chain.Extension {
		if err := e.verifyOplog(ctx, m, v, add); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			problem("backup %s: its oplog: %v", b.ID, err)
		}
	}
	if b.Kind != chain.Full {
		return nil
	}
	all, err := e.catalog(ctx, st, b.ID)
	if err != nil {
		problem("%v", err)
		return ctx.Err()
	}
	for i := range all {
		c := &all[i]
		if c.stream == "" {
			continue
		}
		err := e.verifyCollection(ctx, m, c, add)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			problem("backup %s: %s: %v", b.ID, c.Namespace(), err)
			continue
		}
		v.Docs += c.sum.Documents
	}
	return nil
}

// verifyOplog reads the entries of one backup: known kinds, strictly ascending, from the
// manifest's first to its last, as many as it says.
func (e *Env) verifyOplog(ctx context.Context, m *repo.Manifest, v *Verified, add func(int64)) error {
	entries := int64(-1) // the first is shared with what is before
	var first, last entry.OpTime
	for _, ref := range oplogStreams(m) {
		r, err := e.Repo.Open(ctx, ref)
		if err != nil {
			return err
		}
		err = documents(r, func(raw bson.Raw) error {
			en, err := entry.Parse(raw)
			if err != nil {
				return err
			}
			if first.IsNull() {
				first = en.OpTime
			} else if en.OpTime.TS <= last.TS {
				return fmt.Errorf("the entry %s follows %s", chain.Text(en.OpTime.TS), chain.Text(last.TS))
			}
			last = en.OpTime
			entries++
			add(1)
			return nil
		})
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	switch {
	case first != toOpTime(m.Start) || last != toOpTime(m.End):
		return fmt.Errorf("it reaches from %s to %s, the manifest says from %s to %s", first, last, m.Start, m.End)
	case entries != m.Counts[countEntries]:
		return fmt.Errorf("it has %s, the manifest says %d", tool.Count(entries, "entry", "entries"), m.Counts[countEntries])
	}
	v.Entries += entries
	return nil
}

func (e *Env) verifyCollection(ctx context.Context, m *repo.Manifest, c *catalogEntry, add func(int64)) (err error) {
	ref, ok := stream(m, c.stream)
	if !ok {
		return fmt.Errorf("the manifest has no stream %s", c.stream)
	}
	r, err := e.Repo.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	got, err := sumDocuments(r, add)
	if err != nil {
		return err
	}
	want, err := docsum.Parse(c.sum.Hash, c.sum.Documents, c.sum.Bytes)
	if err == nil && !got.Equal(want) {
		err = fmt.Errorf("%s with hash %s, the manifest says %d with %s", tool.Count(got.Documents, "document", "documents"), got.Hash(), want.Documents, want.Hash())
	}
	return err
}

func sumDocuments(r io.Reader, add func(int64)) (sum docsum.Sum, err error) {
	in := bufio.NewReaderSize(r, 256<<10)
	var doc []byte
	for {
		n, err := load.Next(in)
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
		if cap(doc) < n {
			doc = make([]byte, n)
		}
		if _, err := io.ReadFull(in, doc[:n]); err != nil {
			return sum, err
		}
		sum.Add(doc[:n])
		add(1)
	}
}
