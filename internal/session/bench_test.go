package session

import (
	"context"
	"testing"

	"github.com/cairndb/cairn/internal/query"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkUpdate compares a plain update with a retryable one, below the query room.
func BenchmarkUpdate(b *testing.B) {
	for _, retryable := range []bool{false, true} {
		name := "plain"
		if retryable {
			name = "retryable"
		}
		b.Run(name, func(b *testing.B) {
			s := openStore(b, vfs.NewMem())
			defer s.close(b)
			if _, err := s.run(lsidOf(1), 0, statement{0, 'i', 1, 0}); err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			lsid := lsidOf(2)
			b.ReportAllocs()
			txn := int64(0)
			for b.Loop() {
				txn++
				op := &query.OpContext{Ctx: ctx}
				var co *Checkout
				if retryable {
					var err error
					if co, err = s.rw.CheckOut(ctx, lsid, txn); err != nil {
						b.Fatal(err)
					}
					op.LSID, op.HasTxn, op.TxnNumber = co.LSID(), true, txn
					if prior, err := s.rw.Executed(op, 0); prior != nil || err != nil {
						b.Fatal(prior, err)
					}
				}
				if _, err := s.execute(ctx, op, statement{0, 'u', 1, 1}); err != nil {
					b.Fatal(err)
				}
				if co != nil {
					co.Release()
				}
			}
		})
	}
}
