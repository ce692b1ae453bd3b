package pitr

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	dbson "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/backup/pitr/chain"
	"github.com/cairndb/cairn/internal/backup/pitr/load"
	"github.com/cairndb/cairn/internal/backup/pitr/snapshot"
	"github.com/cairndb/cairn/internal/bson"
)

var (
	propertySeed  = flag.Uint64("seed", 0, "seed of the one random history to run; 0 runs the table's")
	propertySteps = flag.Int("steps", 250, "operations of a random history")
)

// TestEveryMomentComesBack makes a random history on a server, backups of random kinds at random
// moments beside it, and notes the server's state after each operation. Moments of the history, each
// restored into a server of its own, must be what was noted.
func TestEveryMomentComesBack(t *testing.T) {
	t.Parallel()
	seeds := []uint64{1, 2, 3}
	if *propertySeed != 0 {
		seeds = []uint64{*propertySeed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			everyMoment(t, seed)
		})
	}
}

type noted struct {
	ts    bson.Timestamp
	state string
	op    string
}

func everyMoment(t *testing.T, seed uint64) {
	ctx, e := t.Context(), newEnv(t, cairntest.ReplSet("rs0"))
	e.Say = nil
	rnd := rand.New(rand.NewPCG(seed, 1))
	h := &history{t: t, client: e.Client, rnd: rnd}
	var notes []noted
	note := func(op string) {
		org, err := e.openSource(ctx)
		if err != nil {
			t.Fatal(err)
		}
		at, err := org.barrier(ctx)
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, noted{at.TS, stateOf(t, e.Client), op})
	}
	for range 20 {
		h.step()
	}
	must(e.Full(ctx, FullOptions{}))(t)
	h.insert()
	must(e.Incr(ctx, IncrOptions{}))(t)
	backups := rand.New(rand.NewPCG(seed, 2))
	var wg sync.WaitGroup
	for i := range *propertySteps {
		op := h.step()
		note(op)
		if i%12 != 0 {
			continue
		}
		wg.Wait()
		kind := backups.IntN(4)
		wg.Go(func() { // beside the next operations
			var err error
			switch kind {
			case 0:
				_, err = e.Full(ctx, FullOptions{})
			case 1:
				_, err = e.merge(ctx)
			default:
				_, err = e.Incr(ctx, IncrOptions{SliceBytes: int64(1 + backups.IntN(20_000))})
			}
			if err != nil {
				t.Errorf("backup of kind %d: %v", kind, err)
			}
		})
	}
	wg.Wait()
	must(e.Incr(ctx, IncrOptions{}))(t)
	if v, err := e.Verify(ctx, VerifyOptions{}, func(s string) { t.Log(s) }); err != nil {
		t.Fatalf("%v %+v", err, v)
	}
	st := must(e.State(ctx))(t)
	if len(st.Coverage.Windows) != 1 {
		t.Fatalf("windows %+v", st.Coverage.Windows)
	}
	window := st.Coverage.Windows[0]
	notes = slices.DeleteFunc(notes, func(n noted) bool { return n.ts < window.From.TS })
	for range 50 {
		n := notes[rnd.IntN(len(notes))]
		back := restoreTo(t, e, n.ts)
		if back != n.state {
			t.Fatalf("seed %d: %s, after %s, comes back as\n%s\nbut was\n%s", seed, chain.Text(n.ts), n.op, back, n.state)
		}
	}
}

// restoreTo restores a moment into a server of its own and returns its state.
func restoreTo(t *testing.T, e *Env, ts bson.Timestamp) string {
	t.Helper()
	ctx := t.Context()
	srv, err := embedded(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	client, err := mongo.Connect(options.Client().ApplyURI(srv.URI()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	there := e.on(client)
	o := RestoreOptions{To: chain.Moment{TS: ts, Exact: true}, Verify: true, NoUsers: true}
	p := must(there.PlanRestore(ctx, o))(t)
	if _, err := there.Restore(ctx, p, o); err != nil {
		t.Fatalf("restore to %s: %v", chain.Text(ts), err)
	}
	return stateOf(t, client)
}

// stateOf is everything that a client can see, as text: collections with their UUIDs and options,
// indexes, views, and the hash of the documents.
func stateOf(t *testing.T, c *mongo.Client) string {
	t.Helper()
	ctx := t.Context()
	colls, err := (&snapshot.Reader{Client: c}).Catalog(ctx)
	if err != nil {
		t.Fatal(err)
	}
	target := &load.Target{Client: c}
	var lines []string
	for i := range colls {
		coll := &colls[i]
		if coll.DB == "admin" || coll.DB == "config" || coll.DB == scratchDB {
			continue
		}
		sum, err := target.Sum(ctx, coll.Namespace())
		if err != nil {
			t.Fatal(err)
		}
		if coll.Name == "system.views" && sum.Documents == 0 {
			continue // whether an empty one stays is the server's business
		}
		line := fmt.Sprintf("%s %d %s", coll.Namespace(), sum.Documents, sum.Hash()[:16])
		if coll.Name != "system.views" {
			line += fmt.Sprintf(" %x %v", coll.UUID[:4], coll.Options)
		}
		var specs []string
		for _, s := range coll.Indexes {
			specs = append(specs, s.String())
		}
		slices.Sort(specs)
		lines = append(lines, line+" "+strings.Join(specs, " "))
	}
	return strings.Join(lines, "\n")
}

// history does random operations.
type history struct {
	t      *testing.T
	client *mongo.Client
	rnd    *rand.Rand
	n      int
}

func (h *history) coll() *mongo.Collection {
	return h.client.Database([]string{"pa", "pb"}[h.rnd.IntN(4)/3]).Collection(fmt.Sprint("c", h.rnd.IntN(4)))
}

// step does one operation; what the server refuses for what it is (a name that is taken, a
// unique index) is part of life.
func (h *history) step() string {
	ctx, c := h.t.Context(), h.coll()
	h.n++
	name, err := h.do(ctx, c)
	var we mongo.WriteException
	var bwe mongo.BulkWriteException
	switch {
	case err == nil, errors.Is(err, mongo.ErrNoDocuments), errors.As(err, &we), errors.As(err, &bwe), mongo.IsDuplicateKeyError(err):
	case hasAnyCode(err, 26, 27, 48, 66, 67, 72, 85, 86, 20, 166, 10107, 11000):
	default:
		h.t.Fatalf("%s on %s.%s: %v", name, c.Database().Name(), c.Name(), err)
	}
	return fmt.Sprintf("%d %s %s.%s", h.n, name, c.Database().Name(), c.Name())
}

func hasAnyCode(err error, codes ...int) bool {
	return slices.ContainsFunc(codes, func(c int) bool { return hasCode(err, c) })
}

type d = dbson.D

func (h *history) doc() d {
	x := d{{Key: "_id", Value: h.rnd.IntN(60)}, {Key: "u", Value: h.rnd.IntN(60)}, {Key: "n", Value: h.n}}
	if h.rnd.IntN(2) == 0 {
		x = append(x, dbson.E{Key: "arr", Value: dbson.A{h.rnd.IntN(9), d{{Key: "k", Value: h.n}}}}, dbson.E{Key: "sub", Value: d{{Key: "a", Value: 1}, {Key: "b", Value: d{{Key: "c", Value: h.n}}}}})
	}
	return x
}

func (h *history) update() d {
	set := func(op string, v any) d { return d{{Key: op, Value: v}} }
	switch h.rnd.IntN(10) {
	case 0:
		return set("$unset", d{{Key: "sub.b", Value: ""}})
	case 1:
		return set("$push", d{{Key: "arr", Value: h.n}})
	case 2:
		return set("$pop", d{{Key: "arr", Value: 1}})
	case 3:
		return set("$inc", d{{Key: "n", Value: 1}, {Key: "sub.a", Value: 5}})
	case 4:
		return set("$rename", d{{Key: "n", Value: fmt.Sprint("n", h.rnd.IntN(3))}})
	case 5:
		return set("$set", d{{Key: "u", Value: h.rnd.IntN(60)}})
	case 6:
		return set("$set", d{{Key: "arr", Value: dbson.A{1, 2, h.n}}, {Key: "sub", Value: d{{Key: "z", Value: h.n}}}})
	case 7:
		return set("$pull", d{{Key: "arr", Value: d{{Key: "$gt", Value: 4}}}})
	default:
		return set("$set", d{{Key: "text", Value: strings.Repeat("x", h.rnd.IntN(50))}, {Key: fmt.Sprint("f", h.rnd.IntN(5)), Value: h.n}})
	}
}

// do chooses an operation by weight and does it.
func (h *history) do(ctx context.Context, c *mongo.Collection) (name string, err error) {
	id := d{{Key: "_id", Value: h.rnd.IntN(60)}}
	db := c.Database()
	switch k := h.rnd.IntN(100); {
	case k < 25:
		_, err = c.InsertOne(ctx, h.doc())
		return "insert", err
	case k < 32:
		var many []any
		for range 1 + h.rnd.IntN(8) {
			many = append(many, h.doc())
		}
		_, err = c.InsertMany(ctx, many, options.InsertMany().SetOrdered(false))
		return "insertMany", err
	case k < 55:
		_, err = c.UpdateOne(ctx, id, h.update(), options.UpdateOne().SetUpsert(h.rnd.IntN(4) == 0))
		return "update", err
	case k < 60:
		_, err = c.UpdateMany(ctx, d{{Key: "u", Value: d{{Key: "$lt", Value: 20}}}}, h.update())
		return "updateMany", err
	case k < 66:
		x := h.doc()
		_, err = c.ReplaceOne(ctx, id, x[1:], options.Replace().SetUpsert(true))
		return "replace", err
	case k < 74:
		_, err = c.DeleteOne(ctx, id)
		return "delete", err
	case k < 78: // a unique value goes from one document to another
		if _, err = c.DeleteOne(ctx, d{{Key: "u", Value: 7}}); err == nil {
			_, err = c.InsertOne(ctx, d{{Key: "_id", Value: h.rnd.IntN(60)}, {Key: "u", Value: 7}})
		}
		return "churn", err
	case k < 80:
		return "findAndModify", c.FindOneAndUpdate(ctx, id, h.update()).Err()
	case k < 84:
		_, err = c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: d{{Key: []string{"u", "n", "sub.a"}[h.rnd.IntN(3)], Value: 1}}, Options: options.Index().SetUnique(h.rnd.IntN(2) == 0).SetSparse(h.rnd.IntN(3) == 0)})
		return "createIndex", err
	case k < 87:
		return "dropIndex", c.Indexes().DropOne(ctx, []string{"u_1", "n_1", "sub.a_1"}[h.rnd.IntN(3)])
	case k < 89:
		return "collMod", db.RunCommand(ctx, d{{Key: "collMod", Value: c.Name()}, {Key: "validator", Value: d{{Key: "n", Value: d{{Key: "$ne", Value: -h.n}}}}}, {Key: "validationAction", Value: "warn"}}).Err()
	case k < 91:
		return "collModIndex", db.RunCommand(ctx, d{{Key: "collMod", Value: c.Name()}, {Key: "index", Value: d{{Key: "name", Value: "u_1"}, {Key: "hidden", Value: h.rnd.IntN(2) == 0}}}}).Err()
	case k < 95:
		to := h.coll()
		return "rename", h.client.Database("admin").RunCommand(ctx, d{{Key: "renameCollection", Value: db.Name() + "." + c.Name()}, {Key: "to", Value: db.Name() + "." + to.Name()}, {Key: "dropTarget", Value: h.rnd.IntN(2) == 0}}).Err()
	case k < 96:
		return "drop", c.Drop(ctx)
	case k < 97:
		return "create", db.RunCommand(ctx, d{{Key: "create", Value: c.Name()}, {Key: "validator", Value: d{{Key: "u", Value: d{{Key: "$exists", Value: true}}}}}, {Key: "validationLevel", Value: "off"}}).Err()
	case k < 98:
		return "view", db.RunCommand(ctx, d{{Key: "create", Value: "view"}, {Key: "viewOn", Value: c.Name()}, {Key: "pipeline", Value: dbson.A{d{{Key: "$match", Value: d{{Key: "n", Value: h.n}}}}}}}).Err()
	case k < 99 && h.rnd.IntN(2) == 0:
		return "dropDatabase", db.Drop(ctx)
	default:
		_, err = c.Aggregate(ctx, dbson.A{d{{Key: "$match", Value: d{{Key: "u", Value: d{{Key: "$gt", Value: 10}}}}}}, d{{Key: "$out", Value: fmt.Sprint("c", h.rnd.IntN(4))}}})
		return "$out", err
	}
}
