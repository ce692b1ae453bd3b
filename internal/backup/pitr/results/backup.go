package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/find"
	"github.com/cairndb/cairn/internal/backup/pitr/picture"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/tool"
)

func as[E error](err error) (e E, ok bool) {
	ok = errors.As(err, &e)
	return e, ok
}

// Report is a result that can be written both ways.
type Report interface {
	// Text writes it for people.
	Text(w io.Writer)
}

// JSON writes a result as one indented object.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Init is the result of `backup init`.
type Init struct {
	Repository string `json:"repository"`
	ID         string `json:"id"`
	Encrypted  bool   `json:"encrypted"`
	Chunk      int    `json:"averageChunkBytes"`
	Pack       int    `json:"packBytes"`
}

// NewInit describes a new repository.
func NewInit(r *repo.Repo) *Init {
	m := r.Marker()
	return &Init{r.URL(), m.ID, m.Encrypted(), m.Chunker.Average, m.PackSize}
}

// Text implements Report.
func (r *Init) Text(w io.Writer) {
	enc := "not encrypted: use --passphrase-file or --recipient to encrypt"
	if r.Encrypted {
		enc = "encrypted; without its key nobody can read it, you neither"
	}
	fmt.Fprintf(w, "made repository %s (%s)\nnext: cairn backup full\n", r.Repository, enc)
}

// Full is the result of `backup full`.
type Full struct {
	Backup      Backup  `json:"backup"`
	Collections int64   `json:"collections"`
	NewBytes    int64   `json:"newBytes"`
	Seconds     float64 `json:"seconds"`
}

// NewFull describes a full backup.
func NewFull(m *repo.Manifest, took time.Duration) *Full {
	return &Full{backup(m), m.Counts["collections"], m.Written.NewBytes, took.Seconds()}
}

// Text implements Report.
func (r *Full) Text(w io.Writer) {
	b := r.Backup
	fmt.Fprintf(w, "full backup %s: %s of %s, %s, of which %s new, %s, %.1f s\n", b.ID, tool.Count(b.Documents, "document", "documents"), tool.Count(r.Collections, "collection", "collections"),
		picture.Size(b.Bytes), picture.Size(r.NewBytes), storedIn(b), r.Seconds)
	fmt.Fprintf(w, "restorable: the moment %s, and with slices every one after it\n", b.End)
}

// storedIn says what a backup takes in packs; a small one needs none.
func storedIn(b Backup) string {
	if b.Stored == 0 {
		return "nothing beside its manifest"
	}
	return "stored in " + picture.Size(b.Stored)
}

// Incr is the result of `backup incr`.
type Incr struct {
	Slices  []Backup `json:"slices"`
	From    Moment   `json:"from"`
	To      Moment   `json:"to"`
	Entries int64    `json:"entries"`
	Bytes   int64    `json:"bytes"`
	Seconds float64  `json:"seconds"`
}

// NewIncr describes new slices.
func NewIncr(s pitr.Slices, took time.Duration) *Incr {
	r := &Incr{Slices: []Backup{}, From: place(s.From), To: place(s.To), Entries: s.Entries, Bytes: s.Bytes, Seconds: took.Seconds()}
	for _, m := range s.Manifests {
		r.Slices = append(r.Slices, backup(m))
	}
	return r
}

// Text implements Report.
func (r *Incr) Text(w io.Writer) {
	if len(r.Slices) == 0 {
		fmt.Fprintf(w, "nothing happened since %s\n", r.To)
		return
	}
	fmt.Fprintf(w, "%s (%s) in %s, after %s up to %s, %.1f s\n", tool.Count(r.Entries, "entry", "entries"), picture.Size(r.Bytes), tool.Count(len(r.Slices), "slice", "slices"), r.From, r.To, r.Seconds)
}

// Run is how a continuous backup stands, and its last word.
type Run struct {
	Started     time.Time `json:"started"`
	Captured    *Moment   `json:"captured,omitempty"`
	Stored      *Moment   `json:"stored,omitempty"`
	LagSeconds  float64   `json:"lagSeconds"`
	Slices      int64     `json:"slices"`
	Entries     int64     `json:"entries"`
	Bytes       int64     `json:"bytes"`
	Fulls       int64     `json:"fullBackups"`
	FullRunning bool      `json:"fullBackupRunning"`
	Retries     int64     `json:"retries"`
	Gaps        int64     `json:"gaps"`
	Requests    int64     `json:"storeRequests"`
	PerHour     float64   `json:"storeRequestsAnHour"`
	Uploaded    int64     `json:"uploadedBytes"`
	LastError   string    `json:"lastError,omitempty"`
}

// NewRun describes a running backup.
func NewRun(s pitr.RunStatus, now time.Time) *Run {
	q := s.Requests
	n := q.Put + q.Get + q.Head + q.List + q.Delete
	r := &Run{Started: s.Started, Slices: s.Slices, Entries: s.Entries, Bytes: s.Bytes, Fulls: s.Fulls, FullRunning: s.FullRunning, Retries: s.Retries,
		Gaps: s.Gaps, Requests: n, Uploaded: q.BytesUp, LastError: s.LastError, LagSeconds: s.Lag().Seconds()}
	if up := now.Sub(s.Started).Hours(); up > 0 {
		r.PerHour = float64(n) / up
	}
	if !s.Captured.IsNull() {
		m := place(s.Captured)
		r.Captured = &m
	}
	if !s.Stored.IsNull() {
		m := place(s.Stored)
		r.Stored = &m
	}
	return r
}

// Text implements Report.
func (r *Run) Text(w io.Writer) {
	stored := "nothing yet"
	if r.Stored != nil {
		stored = r.Stored.String()
	}
	fmt.Fprintf(w, "stored up to %s, lag %.1f s; %s, %s, %s, %s; %s (%.0f an hour), %s\n",
		stored, r.LagSeconds, tool.Count(r.Slices, "slice", "slices"), tool.Count(r.Entries, "entry", "entries"), picture.Size(r.Bytes), tool.Count(r.Fulls, "full backup", "full backups"),
		tool.Count(r.Requests, "store request", "store requests"), r.PerHour, tool.Count(r.Retries, "retry", "retries"))
}

// Change is one line of `backup find-change`.
type Change struct {
	TS     string `json:"ts"`
	Time   string `json:"time"`
	NS     string `json:"ns"`
	Op     string `json:"op"`
	ID     string `json:"id,omitempty"`
	Txn    bool   `json:"transaction,omitempty"`
	Effect string `json:"effect,omitempty"`
}

// NewChange describes a change.
func NewChange(c find.Change) *Change {
	m := at(c.OpTime.TS)
	when := m.Time.Format(time.RFC3339)
	if !c.Wall.IsZero() {
		when = c.Wall.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return &Change{m.TS, when, c.NS, c.Op, c.ID, c.Txn, c.Effect}
}

// Text implements Report.
func (r *Change) Text(w io.Writer) {
	txn := ""
	if r.Txn {
		txn = " (in a transaction)"
	}
	fmt.Fprintf(w, "%s  %s  %s%s  %s  %s\n", r.TS, r.Time, r.Op, txn, r.ID, r.Effect)
}

// Searched is the end of `backup find-change`.
type Searched struct {
	Entries int64    `json:"entries"`
	Changes int64    `json:"changes"`
	Looked  []Window `json:"lookedThrough"`
}

// NewSearched describes what was looked through.
func NewSearched(s pitr.Searched) *Searched {
	return &Searched{s.Entries, s.Changes, windows(s.Runs)}
}

// Text implements Report.
func (r *Searched) Text(w io.Writer) {
	fmt.Fprintf(w, "%s in %s\n", tool.Count(r.Changes, "change", "changes"), tool.Count(r.Entries, "entry", "entries"))
	for _, l := range r.Looked {
		fmt.Fprintf(w, "looked through %s to %s\n", l.From, l.To)
	}
	if len(r.Looked) == 0 {
		fmt.Fprintln(w, "no backup covers any of that time: cairn backup list shows what is covered")
	}
	if r.Changes > 0 {
		fmt.Fprintln(w, "the moment before a change is its TS with the increment less one, or the end of the second before: cairn backup serve --at …")
	}
}
