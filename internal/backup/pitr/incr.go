package pitr

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/repo"
	"github.com/cairndb/cairn/internal/backup/source"
)

// ErrNoFull is a repository without a full backup to continue.
var ErrNoFull = errors.New("the repository has no full backup yet, so there is nothing to continue: run `cairn backup full` first")

// GapError is that the chain cannot be continued. The gap was recorded.
type GapError struct {
	Gap chain.Gap
	// Full is the full backup that was taken because of it, "" if none was.
	Full string
}

func (e *GapError) Error() string {
	s := fmt.Sprintf("GAP: what happened after %s and up to %s is lost: %s", chain.Describe(e.Gap.From.TS), chain.Describe(e.Gap.To.TS), e.Gap.Why)
	if e.Full == "" {
		return s + "; moments in it cannot be restored; take a new full backup now (`cairn backup full`, or --full-on-gap), a larger oplog or more frequent slices avoid it"
	}
	return s + "; the full backup " + e.Full + " was taken, from its end on every moment can be restored again"
}

// SourceError is a repository that holds the backups of another server.
type SourceError struct{ Repo, Server string }

func (e *SourceError) Error() string {
	return fmt.Sprintf("the repository holds backups of %s, but this server is %s: use another repository (a chain of two servers could not be restored)", e.Repo, e.Server)
}

// IncrOptions are the options of Incr.
type IncrOptions struct {
	// FullOnGap takes a full backup when there is a gap.
	FullOnGap bool
	// SliceBytes ends a slice at about this size of entries; default 256 MB.
	SliceBytes int64
}

// Slices is what a run of Incr added.
type Slices struct {
	Manifests []*repo.Manifest
	From, To  chain.OpTime
	Entries   int64
	Bytes     int64
}

const defaultSliceBytes = 256 << 20

// Incr adds the oplog from where the chain ends up to the newest majority-committed entry. If the
// entry that the chain ends with is gone, the error is a *GapError, with FullOnGap too.
func (e *Env) Incr(ctx context.Context, o IncrOptions) (out Slices, err error) {
	org, err := e.openSource(ctx)
	if err != nil {
		return out, err
	}
	lk, unlock, err := e.lock(ctx, repo.LockRequest{Kind: repo.Shared, Purpose: "incremental backup", Scope: scopeOplog})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	out, err = e.incr(ctx, org, lk, o)
	var gap *GapError
	if errors.As(err, &gap) && o.FullOnGap {
		e.say("%v", err)
		full, ferr := e.full(ctx, org, chain.OpTime{})
		if ferr != nil {
			return out, errors.Join(err, ferr)
		}
		gap.Full = full.ID
	}
	return out, err
}

func (e *Env) incr(ctx context.Context, org *origin, lk *repo.Lock, o IncrOptions) (out Slices, err error) {
	st, err := e.State(ctx)
	if err != nil {
		return out, err
	}
	head, err := st.head(ctx, org)
	if err != nil {
		return out, err
	}
	if was := st.Manifests[head.ID].Source; !sameSource(was, org.name) {
		return out, &SourceError{was, org.name}
	}
	if o.SliceBytes <= 0 {
		o.SliceBytes = defaultSliceBytes
	}
	to, err := org.Newest(ctx)
	if err != nil {
		return out, err
	}
	out.From, out.To = head.End, head.End
	s := &slicer{env: e, org: org, lk: lk, parent: head.ID, joint: st.Manifests[head.ID].Options[optionEnd]}
	defer func() { err = errors.Join(err, s.abort()) }()
	commit := func() error {
		if s.empty() {
			return nil
		}
		m, err := s.commit(ctx)
		if err != nil {
			return err
		}
		out.Manifests = append(out.Manifests, m)
		out.Entries, out.Bytes, out.To = out.Entries+s.entries, out.Bytes+s.bytes, toOpTime(m.End)
		return nil
	}
	add, done := e.bar("oplog", 0)
	defer done()
	err = org.TailBatches(ctx, head.End, func(items []source.Item) error {
		reached := slices.IndexFunc(items, func(i source.Item) bool { return i.Head.OpTime.TS >= to.TS })
		if reached >= 0 {
			items = items[:reached+1] // what came meanwhile is the next slice's
		}
		if err := s.add(ctx, items); err != nil {
			return err
		}
		add(int64(len(items)))
		if reached >= 0 {
			return errReached
		}
		if s.bytes < o.SliceBytes {
			return nil
		}
		if err := commit(); err != nil {
			return err
		}
		s = &slicer{env: e, org: org, lk: lk, parent: out.Manifests[len(out.Manifests)-1].ID}
		return s.add(ctx, items[len(items)-1:])
	})
	if !errors.Is(err, errReached) {
		if gap, ok := asGap(err, out.To); ok {
			err = e.foundGap(ctx, gap)
		}
		return out, err
	}
	return out, commit()
}

// head is the backup that the next slice continues.
func (s *State) head(ctx context.Context, org *origin) (chain.Backup, error) {
	heads := s.Coverage.Heads()
	for i, h := range heads {
		if i == len(heads)-1 {
			return h, nil // whether it is still there is found out on the way, and is a gap if not
		}
		if there, err := org.Has(ctx, h.End); there || err != nil {
			return h, err
		}
	}
	return chain.Backup{}, ErrNoFull
}

// asGap tells the errors that break a chain.
func asGap(err error, end chain.OpTime) (g chain.Gap, ok bool) {
	var gap *source.GapError
	var back *source.RollbackError
	switch {
	case errors.As(err, &gap):
		return chain.Gap{From: end, To: gap.To, Why: "the oplog was overrun before it was captured"}, true
	case errors.As(err, &back):
		return chain.Gap{From: end, To: back.Found, Why: "the entry that the chain ends with is not in the server's oplog: it was rolled back, or the server was restored or replaced"}, true
	}
	return g, false
}

// foundGap records a gap and returns it as an error.
func (e *Env) foundGap(ctx context.Context, g chain.Gap) error {
	g.Found = e.now().UTC()
	err := error(&GapError{Gap: g})
	if rerr := e.recordGap(context.WithoutCancel(ctx), g); rerr != nil {
		err = errors.Join(err, rerr)
	}
	return err
}
