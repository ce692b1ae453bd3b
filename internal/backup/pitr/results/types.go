package results

import (
	"time"

	"github.com/cairndb/cairn/internal/backup/pitr"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/bson"
)

// Moment is a place in the oplog.
type Moment struct {
	TS   string    `json:"ts"`   // seconds:increment, as --to takes it
	Time time.Time `json:"time"` // the second on the clock, UTC
	Term *int64    `json:"term,omitempty"`
}

func (m Moment) String() string { return m.TS + " (" + m.Time.Format(time.RFC3339) + ")" }

func at(ts bson.Timestamp) Moment { return Moment{TS: chain.Text(ts), Time: chain.Clock(ts)} }

func place(o chain.OpTime) Moment {
	m := at(o.TS)
	m.Term = &o.Term
	return m
}

func position(p repo.Position) Moment {
	return place(chain.OpTime{TS: bson.NewTimestamp(p.T, p.I), Term: p.Term})
}

// Backup is one backup.
type Backup struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"` // full, slice or extension
	Start     Moment    `json:"start"`
	End       Moment    `json:"end"`
	Created   time.Time `json:"created"`
	Entries   int64     `json:"entries"`
	Documents int64     `json:"documents,omitempty"`
	Bytes     int64     `json:"bytes"`
	Stored    int64     `json:"storedBytes"`
	Server    string    `json:"serverVersion,omitempty"`
}

func backup(m *repo.Manifest) Backup {
	b := Backup{ID: m.ID, Kind: m.Kind, Start: position(m.Start), End: position(m.End), Created: m.Created,
		Entries: m.Counts["entries"], Documents: m.Counts["documents"], Stored: m.Written.Stored, Server: m.ServerVersion}
	for _, n := range m.Sizes {
		b.Bytes += n
	}
	return b
}

// Window is a range of restorable moments, both ends included.
type Window struct {
	From Moment `json:"from"`
	To   Moment `json:"to"`
}

func windows(ws []chain.Window) []Window {
	all := make([]Window, len(ws))
	for i, w := range ws {
		all[i] = Window{place(w.From), place(w.To)}
	}
	return all
}

// Gap is lost oplog: everything behind After, up to and with UpTo.
type Gap struct {
	After Moment    `json:"after"`
	UpTo  Moment    `json:"upTo"`
	Why   string    `json:"why"`
	Found time.Time `json:"found"`
}

func gap(g chain.Gap) Gap { return Gap{place(g.From), place(g.To), g.Why, g.Found} }

func gaps(gs []chain.Gap) []Gap {
	all := make([]Gap, len(gs))
	for i, g := range gs {
		all[i] = gap(g)
	}
	return all
}

// Failure is the JSON of a command that failed.
type Failure struct {
	Error    string `json:"error"`
	ExitCode int    `json:"exitCode"`
	Gap      *Gap   `json:"gap,omitempty"`
	// Before and After are the nearest restorable moments, of a moment that is not.
	Before *Moment `json:"nearestBefore,omitempty"`
	After  *Moment `json:"nearestAfter,omitempty"`
}

// NewFailure describes an error.
func NewFailure(err error, code int) Failure {
	f := Failure{Error: err.Error(), ExitCode: code}
	if e, ok := as[*pitr.GapError](err); ok {
		g := gap(e.Gap)
		f.Gap = &g
	}
	if e, ok := as[*chain.NotRestorableError](err); ok {
		if e.Gap != nil {
			g := gap(*e.Gap)
			f.Gap = &g
		}
		if e.Before != nil {
			m := at(*e.Before)
			f.Before = &m
		}
		if e.After != nil {
			m := at(*e.After)
			f.After = &m
		}
	}
	return f
}
