package replay

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/bson"
)

// history makes a random history of every kind on a server. Errors of single commands
// are part of it: they leave no entry, or those of what went well.
func history(t testing.TB, c *mongo.Client, rng *rand.Rand, steps int) {
	t.Helper()
	ctx := t.Context()
	colls := []string{"a", "b", "c", "d"}
	pick := func() (*mongo.Database, string) {
		return c.Database([]string{"p", "q"}[rng.IntN(2)]), colls[rng.IntN(len(colls))]
	}
	id := func() any {
		n := rng.IntN(30)
		switch rng.IntN(8) {
		case 0:
			return float64(n)
		case 1:
			return fmt.Sprint(n)
		case 2:
			return dbson.D{{Key: "x", Value: int64(n)}}
		}
		return n
	}
	u := func() int { return rng.IntN(40) }
	for range steps {
		db, name := pick()
		coll := db.Collection(name)
		switch rng.IntN(40) {
		case 0, 1, 2, 3, 4, 5, 6, 7:
			_, _ = coll.InsertOne(ctx, dbson.D{{Key: "_id", Value: id()}, {Key: "u", Value: u()}, {Key: "n", Value: 0}})
		case 8, 9, 10:
			var docs []any
			for range 1 + rng.IntN(20) {
				docs = append(docs, dbson.D{{Key: "_id", Value: id()}, {Key: "u", Value: u()}, {Key: "a", Value: dbson.A{1, 2, 3}}})
			}
			_, _ = coll.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
		case 11, 12, 13, 14, 15, 16, 17:
			ops := []dbson.D{
				{{Key: "$inc", Value: dbson.D{{Key: "n", Value: 1}}}},
				{{Key: "$set", Value: dbson.D{{Key: "u", Value: u()}, {Key: "s.t", Value: rng.IntN(9)}}}},
				{{Key: "$push", Value: dbson.D{{Key: "a", Value: rng.IntN(9)}}}},
				{{Key: "$unset", Value: dbson.D{{Key: "n", Value: 1}}}, {Key: "$rename", Value: dbson.D{{Key: "s", Value: "r"}}}},
				{{Key: "$pop", Value: dbson.D{{Key: "a", Value: 1}}}},
			}
			_, _ = coll.UpdateOne(ctx, dbson.D{{Key: "_id", Value: id()}}, ops[rng.IntN(len(ops))], options.UpdateOne().SetUpsert(rng.IntN(4) == 0))
		case 18, 19:
			_, _ = coll.ReplaceOne(ctx, dbson.D{{Key: "_id", Value: id()}}, dbson.D{{Key: "u", Value: u()}, {Key: "whole", Value: true}})
		case 20:
			_, _ = coll.UpdateMany(ctx, dbson.D{{Key: "u", Value: dbson.D{{Key: "$lt", Value: 10}}}}, dbson.D{{Key: "$inc", Value: dbson.D{{Key: "m", Value: 1}}}})
		case 21, 22, 23, 24, 25:
			_, _ = coll.DeleteOne(ctx, dbson.D{{Key: "_id", Value: id()}})
		case 26:
			_, _ = coll.DeleteMany(ctx, dbson.D{{Key: "u", Value: u()}})
		case 27:
			_ = coll.Drop(ctx)
		case 28, 29:
			_, to := pick()
			_ = c.Database("admin").RunCommand(ctx, dbson.D{{Key: "renameCollection", Value: db.Name() + "." + name}, {Key: "to", Value: db.Name() + "." + to}, {Key: "dropTarget", Value: rng.IntN(2) == 0}}).Err()
		case 30, 31:
			ix := dbson.D{{Key: "key", Value: dbson.D{{Key: "u", Value: 1}}}, {Key: "name", Value: "u_1"}, {Key: "unique", Value: true}}
			_ = db.RunCommand(ctx, dbson.D{{Key: "createIndexes", Value: name}, {Key: "indexes", Value: dbson.A{ix}}}).Err()
		case 32:
			ix := dbson.D{{Key: "key", Value: dbson.D{{Key: "n", Value: 1}}}, {Key: "name", Value: "n_1"}, {Key: "expireAfterSeconds", Value: 1 << 30}}
			_ = db.RunCommand(ctx, dbson.D{{Key: "createIndexes", Value: name}, {Key: "indexes", Value: dbson.A{ix}}}).Err()
		case 33:
			_ = db.RunCommand(ctx, dbson.D{{Key: "dropIndexes", Value: name}, {Key: "index", Value: []string{"u_1", "n_1"}[rng.IntN(2)]}}).Err()
		case 34:
			_ = db.RunCommand(ctx, dbson.D{{Key: "collMod", Value: name}, {Key: "index", Value: dbson.D{{Key: "name", Value: "n_1"}, {Key: "hidden", Value: rng.IntN(2) == 0}}}}).Err()
		case 35:
			_ = db.RunCommand(ctx, dbson.D{{Key: "create", Value: "cap"}, {Key: "capped", Value: true}, {Key: "size", Value: 4096}, {Key: "max", Value: 5}}).Err()
			for i := range 8 {
				_, _ = db.Collection("cap").InsertOne(ctx, dbson.D{{Key: "i", Value: i}})
			}
		case 36:
			if rng.IntN(4) == 0 {
				_ = db.Drop(ctx)
			}
		case 37:
			_ = db.RunCommand(ctx, dbson.D{{Key: "create", Value: "v"}, {Key: "viewOn", Value: name}, {Key: "pipeline", Value: dbson.A{dbson.D{{Key: "$match", Value: dbson.D{{Key: "n", Value: u()}}}}}}}).Err()
		case 38:
			_ = db.RunCommand(ctx, dbson.D{{Key: "drop", Value: []string{"v", "cap"}[rng.IntN(2)]}}).Err()
		case 39:
			_, _ = coll.Aggregate(ctx, dbson.A{dbson.D{{Key: "$out", Value: "out"}}})
		}
	}
}

var histories = flag.Uint64("histories", 6, "random histories to replay")

// TestRandomHistories replays random histories into an empty server, and then random
// suffixes of them over the result: every time the state is the source's.
func TestRandomHistories(t *testing.T) {
	for seed := range *histories {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 17))
			src, dst := server(t), server(t)
			history(t, src, rng, 400)
			entries := oplogOf(t, src)
			want := state(t, src, "p", "q")
			preserve := rng.IntN(2) == 0
			plain := seed%3 == 2
			opts := func() Options {
				return Options{Client: dst, Workers: 1 + rng.IntN(5), BatchBytes: 1 << (8 + rng.IntN(10)), PreserveUUID: preserve, plain: plain}
			}
			// Cairn does not write transactions yet: runs of writes are made into some.
			entries = transactions(t, rng, entries)
			st := replayAll(t, opts(), entries)
			if st.Transactions == 0 {
				t.Error("no transaction was replayed")
			}
			if got := state(t, dst, "p", "q"); got != want {
				t.Fatalf("whole:\n%s\n%+v", differ(got, want), st)
			}
			if plain {
				return // an applyOps of MongoDB's does not converge over data of other collections
			}
			for range 8 {
				from := beginning(t, entries, rng.IntN(len(entries)))
				o := opts()
				o.Resume = true
				st := replayAll(t, o, entries[from:])
				if got := state(t, dst, "p", "q"); got != want {
					t.Fatalf("from %d of %d:\n%s\n%+v", from, len(entries), differ(got, want), st)
				}
			}
		})
	}
}

// TestEveryMoment stops at random entries, and goes on from there.
func TestEveryMoment(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	src := server(t)
	type moment struct {
		at    entry.OpTime
		state string
	}
	var moments []moment
	for range 6 {
		history(t, src, rng, 60)
		all := oplogOf(t, src)
		moments = append(moments, moment{optime(t, all[len(all)-1]), state(t, src, "p", "q")})
	}
	entries := oplogOf(t, src)
	dst := server(t)
	var done entry.OpTime
	for _, m := range moments {
		var tell []bson.Timestamp
		o := Options{Client: dst, Until: m.at.TS, Applied: func(at entry.OpTime) { tell = append(tell, at.TS); done = at }}
		var rest []bson.Raw
		for _, e := range entries {
			if at := optime(t, e); at.TS > done.TS {
				rest = append(rest, e)
			}
		}
		st := replayAll(t, o, rest)
		if got := state(t, dst, "p", "q"); got != m.state {
			t.Fatalf("at %v:\n%s\n%+v", m.at, differ(got, m.state), st)
		}
		if done != m.at {
			t.Errorf("applied up to %v, want %v", done, m.at)
		}
		for i := 1; i < len(tell); i++ {
			if tell[i] <= tell[i-1] {
				t.Errorf("Applied went from %v to %v", tell[i-1], tell[i])
			}
		}
	}
}

// transactions makes runs of document writes into transactions of all forms, which take
// effect where the last of the run did.
func transactions(t testing.TB, rng *rand.Rand, entries []bson.Raw) (out []bson.Raw) {
	t.Helper()
	for n := 0; len(entries) > 0; n++ {
		run := 0
		for limit := rng.IntN(12); run < limit && run < len(entries); run++ {
			if e, err := entry.Parse(entries[run]); err != nil || !e.Kind.IsCRUD() || e.Coll == "system.views" || e.Coll == "cap" {
				break // nor may a transaction write to a capped collection
			}
		}
		if run < 2 {
			out, entries = append(out, entries[0]), entries[1:]
			continue
		}
		prepared := run > 2 && rng.IntN(2) == 0
		parts := run
		if prepared {
			parts-- // the last place is the commit's
		}
		prev := entry.OpTime{Term: -1}
		for i := range parts {
			at := optime(t, entries[i])
			b := bson.NewBuilder(nil)
			b.AppendDoc("lsid", bson.D("id", bson.UUID{9})).Int64("txnNumber", int64(n)).Str("op", "c").Str("ns", "admin.$cmd").Doc("o").Array("applyOps")
			ops := entries[i : i+1]
			if prepared && i == parts-1 {
				ops = entries[i : i+2]
			}
			for _, o := range ops {
				b.Doc("")
				for k, v := range o.Elems() {
					if k == "op" || k == "ns" || k == "ui" || k == "o" || k == "o2" {
						b.Append(k, v)
					}
				}
				b.End()
			}
			b.End()
			if i < parts-1 {
				b.Bool("partialTxn", true)
			} else if prepared {
				b.Bool("prepare", true)
			}
			b.End()
			prev.Append(b, "prevOpTime")
			out = append(out, b.Timestamp("ts", at.TS).Int64("t", at.Term).Finish())
			prev = at
		}
		if prepared {
			at := optime(t, entries[run-1])
			b := bson.NewBuilder(nil)
			b.AppendDoc("lsid", bson.D("id", bson.UUID{9})).Int64("txnNumber", int64(n)).Str("op", "c").Str("ns", "admin.$cmd").AppendDoc("o", bson.D("commitTransaction", 1))
			prev.Append(b, "prevOpTime")
			out = append(out, b.Timestamp("ts", at.TS).Int64("t", at.Term).Finish())
		}
		entries = entries[run:]
	}
	return out
}

// beginning is the newest entry up to from that continues no transaction.
func beginning(t testing.TB, entries []bson.Raw, from int) int {
	t.Helper()
	for ; from > 0; from-- {
		e, err := entry.Parse(entries[from])
		if err != nil {
			t.Fatal(err)
		}
		if !e.Kind.IsTxn() || e.HasPrev && e.PrevOpTime.IsNull() {
			break
		}
	}
	return from
}
