package session

import (
	"context"
	"testing"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func TestKillEndsInterruptAndWaiters(t *testing.T) {
	r := NewOperations()
	op := r.Begin(context.Background(), time.Now(), 1, "c", nil, nil)
	op.Describe("find", "db.c", bson.D("find", "c"))
	ctx, cancel := op.Context()
	defer cancel()
	if err := op.Interrupt(); err != nil {
		t.Fatal(err)
	}
	if !r.Kill(op.ID) || r.Kill(op.ID+1) {
		t.Fatal("Kill must report whether the operation was there")
	}
	<-ctx.Done()
	if !mongoerr.Is(op.Interrupt(), mongoerr.Interrupted) {
		t.Fatalf("Interrupt: %v", op.Interrupt())
	}
	late, cancelLate := op.Context()
	defer cancelLate()
	if late.Err() == nil {
		t.Fatal("a context made after Kill must have ended")
	}
	if infos := r.Snapshot(); len(infos) != 1 || !infos[0].Killed || infos[0].NS != "db.c" {
		t.Fatalf("Snapshot: %+v", infos)
	}
	op.End()
	if r.Count() != 0 {
		t.Fatal("End must unregister")
	}
}

func TestMaxTime(t *testing.T) {
	r := NewOperations()
	op := r.Begin(context.Background(), time.Now(), 1, "c", nil, nil)
	op.SetMaxTime(time.Nanosecond)
	ctx, cancel := op.Context()
	defer cancel()
	<-ctx.Done()
	if !mongoerr.Is(op.Interrupt(), mongoerr.MaxTimeMSExpired) {
		t.Fatalf("Interrupt: %v", op.Interrupt())
	}
}
