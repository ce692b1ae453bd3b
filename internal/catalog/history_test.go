package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
	"github.com/cairndb/cairn/internal/storage"
)

// history makes random operations: documents that fight for unique keys, indexes that
// come and go, collections that are dropped, made again, renamed over each other.
type history struct {
	*node
	r     *rand.Rand
	trace []string
}

func newHistory(n *node, seed uint64) *history {
	return &history{node: n, r: rand.New(rand.NewPCG(seed, 1))}
}

var (
	histColls   = []string{"db.a", "db.b", "db.c", "db2.a"}
	histIndexes = []bson.Raw{
		bson.D("key", bson.D("u", 1), "name", "u_1", "unique", true),
		bson.D("key", bson.D("u", 1), "name", "u_s", "unique", true, "sparse", true),
		bson.D("key", bson.D("x", 1, "y", -1), "name", "xy"),
		bson.D("key", bson.D("l.k", 1), "name", "lk"),
		bson.D("key", bson.D("y", 1), "name", "u_1"), // the same name for something else
		bson.D("key", bson.D("x", 1), "name", "part", "partialFilterExpression", bson.D("y", bson.D("$gt", 2))),
		bson.D("key", bson.D("x", 1, "l", 1), "name", "par"), // x and l may both be arrays
	}
)

func (h *history) pick(list []string) string { return list[h.r.IntN(len(list))] }

func (h *history) value() any {
	switch h.r.IntN(8) {
	case 0:
		return nil
	case 1:
		return bson.A(h.r.IntN(3), h.r.IntN(3))
	case 2:
		return float64(h.r.IntN(4))
	case 3:
		return int64(h.r.IntN(4))
	case 4:
		return strings.Repeat("s", h.r.IntN(3))
	}
	return h.r.IntN(4)
}

func (h *history) doc(id int) bson.Raw {
	b := bson.NewBuilder(nil).Int32("_id", int32(id))
	for _, f := range []string{"u", "x", "y"} {
		if h.r.IntN(3) > 0 {
			if f == "u" {
				b.Int32(f, int32(h.r.IntN(12)))
			} else {
				b.Any(f, h.value())
			}
		}
	}
	if h.r.IntN(2) == 0 {
		b.Array("l")
		for range h.r.IntN(4) {
			b.AppendDoc("", bson.D("k", h.r.IntN(5)))
		}
		b.End()
	}
	return b.Finish()
}

// expected are the errors that a random operation may well meet.
var expected = []mongoerr.Code{
	mongoerr.DuplicateKey, mongoerr.CannotIndexParallelArrays, mongoerr.NamespaceNotFound, mongoerr.NamespaceExists, mongoerr.IndexNotFound,
	mongoerr.IndexKeySpecsConflict, mongoerr.IndexOptionsConflict, mongoerr.CommandNotSupportedOnView, mongoerr.IllegalOperation, mongoerr.InvalidOptions,
	mongoerr.CannotCreateIndex,
}

// step makes one operation.
func (h *history) step() {
	h.t.Helper()
	what, err := h.op()
	h.trace = append(h.trace, fmt.Sprintf("%s: %v", what, err))
	if err == nil || errors.Is(err, storage.ErrNotFound) || slices.Contains(expected, mongoerr.CodeOf(unwrapDoc(err))) {
		return
	}
	h.t.Fatalf("%s: %v", what, err)
}

func (h *history) op() (string, error) {
	ns, id := h.pick(histColls), h.r.IntN(12)
	switch n := h.r.IntN(100); {
	case n < 30:
		d := h.doc(id)
		return "insert " + ns + extjson.String(d), h.insert(ns, d)
	case n < 35:
		docs := []bson.Raw{h.doc(id), h.doc(id + h.r.IntN(3)), h.doc(id + 2)}
		return "insert three " + ns, h.insert(ns, docs...)
	case n < 55:
		d := h.doc(id)
		return "update " + ns + extjson.String(d), h.update(ns, d)
	case n < 70:
		return fmt.Sprintf("delete %s %d", ns, id), h.delete(ns, id)
	case n < 80:
		spec := histIndexes[h.r.IntN(len(histIndexes))]
		_, err := h.CreateIndexes(ctx, nss(ns), []bson.Raw{spec})
		return "createIndexes " + ns + extjson.String(spec), err
	case n < 84:
		name := h.pick([]string{"u_1", "u_s", "xy", "lk", "*", "part", "par"})
		_, err := h.DropIndexes(ctx, nss(ns), bson.V(name))
		return "dropIndexes " + ns + " " + name, err
	case n < 87:
		_, err := h.Drop(ctx, nss(ns))
		return "drop " + ns, err
	case n < 91:
		to := h.pick(histColls)
		_, err := h.Rename(ctx, nss(ns), nss(to), RenameOptions{DropTarget: h.r.IntN(2) == 0})
		return "rename " + ns + " " + to, err
	case n < 93:
		opts := bson.D("capped", true, "size", 512, "max", 3)
		_, err := h.Create(ctx, nss(ns), opts)
		return "create capped " + ns, err
	case n < 95:
		_, err := h.Create(ctx, nss("db.v"), bson.D("viewOn", h.pick([]string{"a", "b"}), "pipeline", bson.A()))
		return "create view", err
	case n < 96:
		_, err := h.Drop(ctx, nss("db.v"))
		return "drop view", err
	case n < 98:
		mods := []bson.Raw{bson.D("validationLevel", "moderate"), bson.D("index", bson.D("name", "xy", "hidden", h.r.IntN(2) == 0)), bson.D("validator", bson.D("x", bson.D("$exists", true)))}
		_, err := h.CollMod(ctx, nss(ns), mods[h.r.IntN(len(mods))])
		return "collMod " + ns, err
	case n < 99:
		_, err := h.ConvertToCapped(ctx, nss(ns), 1024)
		return "convertToCapped " + ns, err
	}
	_, err := h.DropDatabase(ctx, "db2")
	return "dropDatabase", err
}

// logical is what clients could see of a store: all names, options, indexes and
// documents with their RecordIds.
func (n *node) logical() map[string]string {
	n.t.Helper()
	m := map[string]string{}
	v := n.Pin()
	for _, db := range v.Databases() {
		for _, w := range v.Views(db) {
			m["view "+w.NS.String()] = w.Options().String()
		}
		for _, c := range v.Collections(db) {
			ns := c.NS.String()
			m[ns] = fmt.Sprint(c.UUID, c.Options.Raw, c.Count(), c.DataSize())
			for _, ix := range c.AllIndexes() {
				m[ns+" index "+ix.Spec.Name] = fmt.Sprint(ix.Spec.Raw, ix.Building())
			}
			cur := c.store.Cursor(n.eng, storage.Forward)
			for cur.Next() {
				m[fmt.Sprintf("%s record %d", ns, cur.RecordID())] = extjson.String(cur.Value())
			}
			n.must(errors.Join(cur.Err(), cur.Close()))
		}
	}
	return m
}

// checkAll validates every collection.
func (n *node) checkAll() {
	n.t.Helper()
	v := n.Pin()
	for _, db := range v.Databases() {
		for _, c := range v.Collections(db) {
			res, err := c.Validate(ctx, true)
			n.must(err)
			if !res.Valid() {
				n.t.Fatalf("%s: %s", c.NS, res)
			}
		}
	}
}

func (h *history) onFailure() {
	if h.t.Failed() {
		h.t.Logf("history:\n%s", strings.Join(h.trace, "\n"))
	}
}

// TestApplyEqualsWrite: what the write path left, what recovery makes of the journal and
// what another store makes of the entries are the same bytes, records and indexes.
func TestApplyEqualsWrite(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			h := newHistory(openNode(t, fs), seed)
			defer h.onFailure()
			for i := range 250 {
				if h.step(); i == 100 {
					h.must(h.eng.Flush())
				}
			}
			h.checkAll()
			want, logical := h.dump(), h.logical()
			f := follower(t, h.entries())
			sameState(t, "follower", f.logical(), logical)
			sameState(t, "follower", f.dump(), want)
			f.checkAll()
			h.must(h.seq.Sync(ctx))
			clone := fs.CrashClone(vfs.CrashCloneCfg{})
			h.node.close()
			r := openNode(t, clone)
			defer r.close()
			sameState(t, "recovered", r.logical(), logical)
			sameState(t, "recovered", r.dump(), want)
			r.checkAll()
		})
	}
}

// TestReplayChangesNothing: any suffix of the log, replayed over the state that it led
// to, leaves everything as it is.
func TestReplayChangesNothing(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(newNode(t), seed+100)
			defer h.onFailure()
			for range 200 {
				h.step()
			}
			log, want := h.entries(), h.logical()
			for range 5 {
				from := h.r.IntN(len(log))
				h.trace = append(h.trace, fmt.Sprintf("replay from %d of %d: %s", from, len(log), extjson.String(log[from])))
				h.replay(log[from:])
				sameState(t, fmt.Sprintf("replay of the last %d entries", len(log)-from), h.logical(), want)
				h.checkAll()
			}
		})
	}
}

func (n *node) replay(log []bson.Raw) {
	n.t.Helper()
	r := n.NewReplay()
	for _, d := range log {
		e, err := oplog.Decode(d)
		n.must(err)
		if err := r.Apply(ctx, &e); err != nil {
			n.t.Fatalf("%s: %v", extjson.String(d), err)
		}
	}
	n.must(r.Finish(ctx))
}
