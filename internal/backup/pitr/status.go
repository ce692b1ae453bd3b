package pitr

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
)

// Status is how backups stand.
type Status struct {
	State *State
	// Newest is the newest restorable moment, nil if there is none.
	Newest *chain.OpTime
	Locks  []repo.LockInfo
	// NoLocks is why the locks are not known.
	NoLocks error
	// Verify and Drills are the last results; nil and empty if there are none.
	Verify *VerifyRecord
	Drills []DrillRecord

	// Server is what the server says; nil if none was asked, with the reason in ServerError.
	Server      *ServerStatus
	ServerError string
}

// ServerStatus is the server's side.
type ServerStatus struct {
	Name, Version  string
	Oldest, Newest chain.OpTime
	// Lag is how far what is stored is behind the server.
	Lag time.Duration
	// Pending tells that the server has entries that are not stored.
	Pending bool
	// Continues tells that the entry that the chain ends with is still in the oplog.
	Continues bool
	// Left is how long the oplog, at the rate at which it was filled, still keeps it; 0 if it
	// has gone.
	Left time.Duration
	// Window is the time that the oplog spans.
	Window time.Duration
}

// Status reads the repository and, if there is a client, the server.
func (e *Env) Status(ctx context.Context) (*Status, error) {
	st, err := e.State(ctx)
	if err != nil {
		return nil, err
	}
	s := &Status{State: st}
	if n, ok := st.Coverage.Newest(); ok {
		s.Newest = &n
	}
	if s.Locks, err = e.Repo.Locks(ctx); repo.MayNotWrite(err) {
		s.NoLocks = err // who watches may have no right to write, and their ages need a write
	} else if err != nil {
		return nil, fmt.Errorf("reading the locks: %w", err)
	}
	if s.Verify, err = e.lastVerify(ctx); err != nil {
		return nil, err
	}
	if s.Drills, err = e.drills(ctx); err != nil {
		return nil, err
	}
	if e.Client == nil {
		s.ServerError = "no server is given (--uri or CAIRN_URI)"
		return s, nil
	}
	if s.Server, err = e.serverStatus(ctx, st); err != nil {
		s.ServerError = err.Error()
	}
	return s, nil
}

// lastVerify is the result of the last verification, nil if there was none.
func (e *Env) lastVerify(ctx context.Context) (*VerifyRecord, error) {
	var v VerifyRecord
	ok, err := e.Repo.Record(ctx, recordVerify, "last", &v)
	if err != nil {
		return nil, fmt.Errorf("reading the result of the last verification: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return &v, nil
}

// drills are the results of drills, the newest last.
func (e *Env) drills(ctx context.Context) ([]DrillRecord, error) {
	records, err := e.Repo.Records(ctx, recordDrill)
	if err != nil {
		return nil, fmt.Errorf("reading the results of drills: %w", err)
	}
	all := make([]DrillRecord, len(records))
	for i, r := range records {
		if err := json.Unmarshal(r.Data, &all[i]); err != nil {
			return nil, fmt.Errorf("the result of drill %s: %w", r.ID, err)
		}
	}
	return all, nil
}

func (e *Env) serverStatus(ctx context.Context, st *State) (*ServerStatus, error) {
	org, err := e.openSource(ctx)
	if err != nil {
		return nil, err
	}
	w, err := org.Window(ctx)
	if err != nil {
		return nil, err
	}
	s := &ServerStatus{Name: org.name, Version: org.version, Oldest: w.Oldest, Newest: w.Newest, Window: w.Length()}
	head, ok := st.Coverage.Head()
	if !ok {
		s.Lag, s.Pending = s.Window, true
		return s, nil
	}
	s.Lag, s.Pending = w.Lag(head.End), w.Newest.TS > head.End.TS
	if s.Continues, err = org.Has(ctx, head.End); err != nil {
		return nil, err
	}
	if s.Continues {
		s.Left = left(w.Length(), w.Left(head.End), w.Bytes, w.MaxBytes)
	}
	return s, nil
}

// left estimates how long an entry stays, from the span of the oplog, the entry's distance from
// its oldest one, and how full it is.
func left(span, behind time.Duration, size, limit int64) time.Duration {
	if size <= 0 || limit <= size {
		return behind
	}
	// What is free is filled at the rate of what is there.
	return behind + time.Duration(float64(span)*float64(limit-size)/float64(size))
}
