package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
	"github.com/cairndb/cairn/internal/storage/journal"
)

// InspectOptions say what Inspect shows and how.
type InspectOptions struct {
	JSON  bool // one JSON document
	Oplog int  // also the newest so many oplog entries
}

// Inspect shows what is in a closed store, without changing it: versions, the journal,
// what a start would replay, and the collections as the engine holds them before that.
// A store whose parts do not fit is shown as far as it can be read; the error then is
// the damage.
func Inspect(ctx context.Context, w io.Writer, dir string, o InspectOptions) error {
	e, err := storage.Open(storage.Options{Dir: dir, ReadOnly: true})
	if err != nil {
		return err
	}
	r, damage, err := inspectStore(ctx, e, dir, o)
	if err = errors.Join(err, e.Close()); err != nil {
		return err
	}
	if o.JSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.text(w)
	}
	return errors.Join(damage, err)
}

// storeReport is what Inspect found.
type storeReport struct {
	Dir           string             `json:"dir"`
	Format        int                `json:"format"`
	EngineFormat  int                `json:"engineFormat"`
	EngineBytes   uint64             `json:"engineBytes"`
	Applied       markReport         `json:"applied"`
	Journal       journalReport      `json:"journal"`
	Replay        replayReport       `json:"replay"`
	Damage        string             `json:"damage,omitempty"`
	Oplog         oplogReport        `json:"oplog"`
	Collections   []collectionReport `json:"collections"`
	Views         []viewReport       `json:"views,omitempty"`
	NewestEntries []json.RawMessage  `json:"newestEntries,omitempty"`
}

type markReport struct {
	Position uint64    `json:"position"`
	Index    uint64    `json:"index"`
	TS       timestamp `json:"ts"`
}

type journalReport struct {
	Bytes    int64           `json:"bytes"`
	End      markReport      `json:"end"`
	Segments []segmentReport `json:"segments"`
	TornTail *tornReport     `json:"tornTail,omitempty"`
}

type segmentReport struct {
	File       string    `json:"file"`
	Position   uint64    `json:"position"`
	Bytes      int64     `json:"bytes"`
	FirstIndex uint64    `json:"firstIndex"`
	LastIndex  uint64    `json:"lastIndex"`
	FirstTS    timestamp `json:"firstTs"`
	LastTS     timestamp `json:"lastTs"`
}

type tornReport struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"`
}

// replayReport is what a start would apply.
type replayReport struct {
	Entries    int   `json:"entries"`
	Units      int   `json:"units"`
	LocalUnits int   `json:"localUnits"`
	Bytes      int64 `json:"bytes"`
}

type oplogReport struct {
	Entries   uint64    `json:"entries"`
	First     timestamp `json:"firstTs"`
	Last      timestamp `json:"lastTs"`
	Ceiling   timestamp `json:"tsCeiling"`
	Resized   int64     `json:"resizedBytes,omitempty"`
	Retention string    `json:"minRetention,omitempty"`
}

type collectionReport struct {
	NS        string          `json:"ns"`
	UUID      string          `json:"uuid"`
	Options   json.RawMessage `json:"options"`
	Documents int64           `json:"documents"`
	DataBytes int64           `json:"dataBytes"`
	DiskBytes uint64          `json:"diskBytes"`
	Indexes   []indexReport   `json:"indexes"`
}

type indexReport struct {
	Name      string          `json:"name"`
	Spec      json.RawMessage `json:"spec"`
	DiskBytes uint64          `json:"diskBytes"`
	Building  bool            `json:"building,omitempty"`
	key       string
}

type viewReport struct {
	NS      string          `json:"ns"`
	Options json.RawMessage `json:"options"`
}

// timestamp is a ts as people and tools read it.
type timestamp bson.Timestamp

func (t timestamp) String() string {
	if t == 0 {
		return "-"
	}
	ts := bson.Timestamp(t)
	return fmt.Sprintf("%s #%d", time.Unix(int64(ts.Seconds()), 0).UTC().Format(time.DateTime), ts.Increment())
}

// MarshalJSON writes extended JSON.
func (t timestamp) MarshalJSON() ([]byte, error) {
	ts := bson.Timestamp(t)
	return fmt.Appendf(nil, `{"$timestamp":{"t":%d,"i":%d}}`, ts.Seconds(), ts.Increment()), nil
}

func newMarkReport(m storage.Mark) markReport {
	return markReport{uint64(m.Pos), m.Index, timestamp(m.TS)}
}

// inspectStore reads everything. damage is set if the parts of the store do not fit,
// which does not keep it from being shown.
func inspectStore(ctx context.Context, e *storage.Engine, dir string, o InspectOptions) (r *storeReport, damage, err error) {
	r = &storeReport{Dir: dir, EngineBytes: e.Stats().DiskBytes, Applied: newMarkReport(e.Applied())}
	r.Format, r.EngineFormat = e.Format()
	if err := r.readJournal(e.Journal()); err != nil {
		return nil, nil, err
	}
	st, err := e.Unapplied(ctx, nil)
	if ctx.Err() != nil {
		return nil, nil, err
	}
	if err != nil {
		damage, r.Damage = err, err.Error()
	}
	r.Replay = replayReport{st.Entries, st.Units, st.LocalUnits, st.Bytes}
	if err := r.readOplog(e, o.Oplog); err != nil {
		return nil, nil, err
	}
	return r, damage, r.readCatalog(ctx, e)
}

func (r *storeReport) readJournal(j *journal.Journal) error {
	segs, err := j.Describe()
	if err != nil {
		return err
	}
	r.Journal.Bytes, r.Journal.End = j.Size(), newMarkReport(j.Appended())
	r.Journal.Segments = []segmentReport{}
	for _, s := range segs {
		r.Journal.Segments = append(r.Journal.Segments, segmentReport{filepath.Base(s.Path), uint64(s.Base), s.FileBytes,
			s.FirstIndex, s.LastIndex, timestamp(s.FirstTS), timestamp(s.LastTS)})
	}
	if t := j.Torn(); t.File != "" {
		r.Journal.TornTail = &tornReport{filepath.Base(t.File), t.Offset, t.Bytes}
	}
	return nil
}

func (r *storeReport) readOplog(e *storage.Engine, newest int) error {
	st, err := oplog.ReadState(e)
	if err != nil {
		return err
	}
	j := e.Journal()
	first, last := j.First(), j.Appended()
	r.Oplog = oplogReport{Last: timestamp(last.TS), First: timestamp(first.TS), Ceiling: timestamp(st.Ceiling), Resized: st.Size}
	if first.Index > 0 {
		r.Oplog.Entries = last.Index - first.Index + 1
	}
	if st.Retention > 0 {
		r.Oplog.Retention = st.Retention.String()
	}
	entries, err := oplog.Newest(j, newest)
	if err != nil {
		return err
	}
	for _, d := range entries {
		line, err := extjson.Marshal(d, extjson.Relaxed)
		if err != nil {
			return fmt.Errorf("%w: oplog entry: %w", storage.ErrCorruption, err)
		}
		r.NewestEntries = append(r.NewestEntries, line)
	}
	return nil
}

// matchAll stands in for every validator and partial filter: they are shown, not used,
// and one that this program cannot compile is shown too.
func matchAll(bson.Raw, *collate.Collator) (*match.Matcher, error) {
	return match.Compile(bson.NewBuilder(nil).Finish(), match.Options{})
}

func (r *storeReport) readCatalog(ctx context.Context, e *storage.Engine) error {
	cat, err := catalog.Open(catalog.Options{Engine: e, CompileFilter: matchAll})
	if err != nil {
		return err
	}
	defer cat.Close()
	v := cat.Pin()
	r.Collections = []collectionReport{}
	for _, db := range v.Databases() {
		for _, c := range v.Collections(db) {
			if err := ctx.Err(); err != nil {
				return err
			}
			rep, err := newCollectionReport(e, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.NS, err)
			}
			r.Collections = append(r.Collections, rep)
		}
		for _, view := range v.Views(db) {
			opts, err := extjson.Marshal(view.Options(), extjson.Relaxed)
			if err != nil {
				return err
			}
			r.Views = append(r.Views, viewReport{view.NS.String(), opts})
		}
	}
	return nil
}

func newCollectionReport(e *storage.Engine, c *catalog.Collection) (r collectionReport, err error) {
	r = collectionReport{NS: c.NS.String(), UUID: c.UUID.String(), Documents: c.Count(), DataBytes: c.DataSize(), Indexes: []indexReport{}}
	if r.DiskBytes, err = c.StorageSize(); err != nil {
		return r, err
	}
	if r.Options, err = extjson.Marshal(c.Options.Raw, extjson.Relaxed); err != nil {
		return r, err
	}
	ready := map[string]bool{}
	for _, ix := range c.Indexes() {
		ready[ix.Spec.Name] = true
	}
	for _, ix := range c.AllIndexes() {
		i := indexReport{Name: ix.Spec.Name, Building: !ready[ix.Spec.Name], key: extjson.String(ix.Spec.Key)}
		if i.DiskBytes, err = e.TableSize(ix.Store.Table); err != nil {
			return r, err
		}
		if i.Spec, err = extjson.Marshal(ix.Spec.Raw, extjson.Relaxed); err != nil {
			return r, err
		}
		r.Indexes = append(r.Indexes, i)
	}
	return r, nil
}

// text writes the report for people.
func (r *storeReport) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	p := func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) } // Flush tells of errors
	p("store\t%s", r.Dir)
	p("format\t%d, engine %d", r.Format, r.EngineFormat)
	p("engine\t%s on disk, holds the journal up to position %d, index %d, %s", size(r.EngineBytes), r.Applied.Position, r.Applied.Index, r.Applied.TS)
	p("journal\t%s, up to position %d, index %d, %s", size(r.Journal.Bytes), r.Journal.End.Position, r.Journal.End.Index, r.Journal.End.TS)
	if torn := r.Journal.TornTail; torn != nil {
		p("torn tail\t%d bytes behind %s offset %d, which a start cuts off", torn.Bytes, torn.File, torn.Offset)
	}
	switch {
	case r.Damage != "":
		p("DAMAGED\t%s", r.Damage)
	case r.Replay.Units == 0:
		p("state\tclosed cleanly, nothing to replay")
	default:
		p("state\ta start replays %d entries and %d local units (%s); what is below is without them", r.Replay.Entries, r.Replay.LocalUnits, size(r.Replay.Bytes))
	}
	p("oplog\t%d entries, %s to %s, next ts below %s%s", r.Oplog.Entries, r.Oplog.First, r.Oplog.Last, r.Oplog.Ceiling, r.Oplog.kept())
	p("\nsegment\tbytes\tfirst index\tlast index\tfirst ts\tlast ts")
	for _, s := range r.Journal.Segments {
		p("%s\t%d\t%d\t%d\t%s\t%s", s.File, s.Bytes, s.FirstIndex, s.LastIndex, s.FirstTS, s.LastTS)
	}
	p("\ncollection\tdocuments\tdata\ton disk\tuuid\toptions")
	for _, c := range r.Collections {
		p("%s\t%d\t%s\t%s\t%s\t%s", c.NS, c.Documents, size(c.DataBytes), size(c.DiskBytes), c.UUID, c.Options)
		for _, ix := range c.Indexes {
			building := ""
			if ix.Building {
				building = "being built"
			}
			p("  %s\t\t\t%s\t%s\t%s", ix.Name, size(ix.DiskBytes), building, ix.key)
		}
	}
	for _, v := range r.Views {
		p("%s\tview\t\t\t\t%s", v.NS, v.Options)
	}
	if len(r.NewestEntries) > 0 {
		p("\nnewest oplog entries")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, e := range r.NewestEntries {
		if _, err := fmt.Fprintf(w, "%s\n", e); err != nil {
			return err
		}
	}
	return nil
}

// kept says what replSetResizeOplog has set.
func (o *oplogReport) kept() string {
	var b strings.Builder
	if o.Resized > 0 {
		fmt.Fprintf(&b, ", resized to %s", size(o.Resized))
	}
	if o.Retention != "" {
		fmt.Fprintf(&b, ", kept for at least %s", o.Retention)
	}
	return b.String()
}

// size writes a number of bytes for people.
func size[N int64 | uint64](n N) string {
	switch f := float64(n); {
	case f < 10_000:
		return fmt.Sprintf("%d B", n)
	case f < 10_000_000:
		return fmt.Sprintf("%.0f KB", f/1e3)
	case f < 10_000_000_000:
		return fmt.Sprintf("%.0f MB", f/1e6)
	default:
		return fmt.Sprintf("%.0f GB", f/1e9)
	}
}
