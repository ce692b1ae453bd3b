package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/bson"
)

// Codes of answers that say that something was done before.
const (
	codeNamespaceNotFound = 26
	codeIndexNotFound     = 27
	codeNamespaceExists   = 48
	codeIndexOptions      = 85
	codeIndexSpecs        = 86
	codeDuplicateKey      = 11000
)

// target is the server that is written to.
type target struct {
	client   *mongo.Client
	cairn    bool
	set      bool
	retryFor time.Duration
	bypass   bool // document validation
	// concern is what every write waits for: what Applied promises must outlive a crash.
	concern bson.Raw
	buffers sync.Pool // *[]byte: of commands that were sent
}

func openTarget(ctx context.Context, client *mongo.Client, plain bool) (*target, error) {
	t := &target{client: client}
	info, err := t.run(ctx, "admin", bson.D("buildInfo", 1))
	if err != nil {
		return nil, err
	}
	t.cairn = !info.Get("cairn").IsMissing() && !plain
	hello, err := t.run(ctx, "admin", bson.D("isMaster", 1))
	if err != nil {
		return nil, err
	}
	if hello.Get("msg").Str() == "isdbgrid" {
		return nil, errors.New("the target is a mongos, which has no applyOps: replay into each shard, or into a replica set")
	}
	t.set = hello.Get("setName").Str() != ""
	t.concern = bson.D("w", 1, "j", true)
	if t.set {
		t.concern = bson.D("w", "majority", "j", true)
	}
	return t, nil
}

// workers is how many commands the target is given at the same time.
func (t *target) workers(ctx context.Context) int {
	if t.cairn {
		if info, err := t.run(ctx, "admin", bson.D("hostInfo", 1)); err == nil {
			cores, _ := info.Path("system.numCores").AsInt64()
			return int(min(max(cores-1, 1), 8))
		}
	}
	return min(max(runtime.NumCPU(), 2), 8)
}

// ErrNoApplyOps is a server that an oplog cannot be replayed into.
var ErrNoApplyOps = errors.New("the target has no command applyOps, by which an oplog is replayed: it is neither a MongoDB (4.0 or newer) nor a Cairn")

// Check says in advance why nothing could be replayed into a server: a mongos, or ErrNoApplyOps. It
// changes nothing there.
func Check(ctx context.Context, client *mongo.Client) error {
	t, err := openTarget(ctx, client, false)
	if err != nil {
		return err
	}
	reply, err := t.run(ctx, "admin", bson.D("listCommands", 1))
	if err != nil {
		return nil // not every server tells, and the first command will
	}
	if reply.Path("commands.applyOps").IsMissing() {
		return ErrNoApplyOps
	}
	return nil
}

func (t *target) run(ctx context.Context, db string, cmd bson.Raw) (bson.Raw, error) {
	res, err := t.client.Database(db).RunCommand(ctx, raw(cmd)).Raw()
	return bson.Raw(res), err
}

// write runs a command and waits for its write concern.
func (t *target) write(ctx context.Context, db string, cmd bson.Raw) (bson.Raw, error) {
	b := bson.NewBuilder(make([]byte, 0, len(cmd)+64))
	b.AppendElems(cmd).AppendDoc("writeConcern", t.concern)
	reply, err := t.run(ctx, db, b.Finish())
	if err == nil {
		if wce := reply.Get("writeConcernError"); !wce.IsMissing() {
			err = fmt.Errorf("the write concern was not reached: %s", wce.Doc().Get("errmsg").Str())
		}
	}
	return reply, err
}

// info is what listCollections says of one.
type info struct {
	name    string
	uuid    bson.UUID
	view    bool
	capped  bool
	ordered bool // its writes must stay in order among each other
}

func (t *target) list(ctx context.Context, db string) ([]info, error) {
	cur, err := t.client.Database(db).ListCollections(ctx, raw(bson.Empty))
	if err != nil {
		return nil, err
	}
	defer func() { _ = cur.Close(ctx) }() // it was read to its end, or the error is returned
	var all []info
	for cur.Next(ctx) {
		doc := bson.Raw(cur.Current)
		i := info{name: strings.Clone(doc.Get("name").Str()), view: doc.Get("type").Str() == "view"}
		i.uuid, _ = doc.Path("info.uuid").UUID()
		opts := doc.Get("options").Doc()
		loc := opts.Get("collation").Doc().Get("locale").Str()
		i.capped = opts.Get("capped").Truthy()
		i.ordered = i.capped || (loc != "" && loc != "simple")
		if doc.Get("type").Str() != "timeseries" { // its buckets are listed by themselves
			all = append(all, i)
		}
	}
	return all, cur.Err()
}

// applyOps sends operations that are documents already.
func (t *target) applyOps(ctx context.Context, ops ...bson.Raw) (bson.Raw, error) {
	b := bson.NewBuilder(nil)
	b.Array("applyOps")
	for _, o := range ops {
		b.AppendDoc("", o)
	}
	b.End().Bool("bypassDocumentValidation", t.bypass)
	return t.write(ctx, "admin", b.Finish())
}

// send applies operations of a round in order. On a MongoDB it returns those that met a
// unique key, and what follows of their documents, which are in blocked from then on.
func (t *target) send(ctx context.Context, r *round, ops []int, blocked map[uint64]bool) (late []int, err error) {
	if len(blocked) > 0 {
		ops, late = r.unblocked(ops, blocked)
		if len(ops) == 0 {
			return late, nil
		}
	}
	_, err = t.batch(ctx, r, ops)
	if err == nil {
		r.note(int64(len(ops)), nil, "")
		return late, nil
	}
	var ce mongo.CommandError
	if !errors.As(err, &ce) {
		return nil, r.failure(ops[0], err)
	}
	applied, told := bson.Raw(ce.Raw).Get("applied").AsInt64()
	if t.cairn {
		if doubled(err) {
			r.note(int64(len(ops)), nil, uniqueNS(ce.Message))
			return late, nil
		}
		at := ops[0]
		if told && applied > 0 && applied <= int64(len(ops)) {
			at = ops[applied-1]
		}
		return nil, r.failure(at, err)
	}
	again, err := t.oneByOne(ctx, r, ops, blocked)
	return append(late, again...), err
}

// batch is one applyOps, tried again while the server cannot be reached: operations may
// be applied twice.
func (t *target) batch(ctx context.Context, r *round, ops []int) (bson.Raw, error) {
	size := 256
	for _, i := range ops {
		size += r.ops[i].n + 12
	}
	buf, _ := t.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	defer t.buffers.Put(buf)
	b := bson.NewBuilder(slices.Grow((*buf)[:0], size))
	b.Array("applyOps")
	for _, i := range ops {
		b.AppendDoc("", r.document(i))
	}
	b.End().Bool("bypassDocumentValidation", t.bypass)
	cmd := b.AppendDoc("writeConcern", t.concern).Finish()
	*buf = b.Buffer()
	pause := 100 * time.Millisecond
	for began := time.Now(); ; {
		reply, err := t.run(ctx, "admin", cmd)
		if err == nil {
			if wce := reply.Get("writeConcernError"); !wce.IsMissing() {
				return reply, fmt.Errorf("the write concern was not reached: %s", wce.Doc().Get("errmsg").Str())
			}
		}
		if err == nil || time.Since(began) > t.retryFor || ctx.Err() != nil || !unreachable(err) {
			return reply, err
		}
		timer := time.NewTimer(pause + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// unreachable reports whether the command may not have arrived, or a new primary may take it.
func unreachable(err error) bool {
	if mongo.IsNetworkError(err) {
		return true
	}
	var ce mongo.CommandError
	if !errors.As(err, &ce) {
		return !errors.Is(err, mongo.ErrClientDisconnected) && mongo.IsTimeout(err)
	}
	switch ce.Code {
	case 0, 91, 189, 10107, 11600, 11602, 13435, 13436:
		return true
	}
	return false
}

// unblocked parts operations into those whose document is not blocked and the others.
func (r *round) unblocked(ops []int, blocked map[uint64]bool) (free, held []int) {
	for _, i := range ops {
		if blocked[r.ops[i].doc] {
			held = append(held, i)
		} else {
			free = append(free, i)
		}
	}
	return free, held
}

// oneByOne applies operations of which a batch failed, those of a transaction together.
func (t *target) oneByOne(ctx context.Context, r *round, ops []int, blocked map[uint64]bool) (late []int, err error) {
	for len(ops) > 0 {
		n := 1
		for txn := r.ops[ops[0]].txn; txn != 0 && n < len(ops) && r.ops[ops[n]].txn == txn; {
			n++
		}
		one := ops[:n]
		ops = ops[n:]
		if held := r.anyBlocked(one, blocked); held {
			r.block(one, blocked)
			late = append(late, one...)
			continue
		}
		done, err := t.single(ctx, r, one)
		if err != nil {
			return nil, err
		}
		if !done {
			r.block(one, blocked)
			late = append(late, one...)
		}
	}
	return late, nil
}

func (r *round) anyBlocked(ops []int, blocked map[uint64]bool) bool {
	for _, i := range ops {
		if blocked[r.ops[i].doc] {
			return true
		}
	}
	return false
}

func (r *round) block(ops []int, blocked map[uint64]bool) {
	for _, i := range ops {
		blocked[r.ops[i].doc] = true
	}
}

const whyNoDocument = "its document is not there: a later entry deletes it"

// single applies one operation or transaction. It is not done if a unique key is in the way.
func (t *target) single(ctx context.Context, r *round, ops []int) (done bool, err error) {
	_, err = t.batch(ctx, r, ops)
	var ce mongo.CommandError
	switch {
	case err == nil:
		r.note(int64(len(ops)), nil, "")
		return true, nil
	case isCode(err, codeDuplicateKey):
		return false, nil
	case errors.As(err, &ce) && ce.Name == "UpdateOperationFailed" && len(ops) == 1:
		r.note(0, map[string]int64{whyNoDocument: 1}, "")
		return true, nil
	}
	return false, r.failure(ops[0], err)
}

// retry applies, in the order of the oplog, what met unique keys while the workers were at
// work side by side: as long as one of them goes through, others may.
func (r *round) retry(ctx context.Context, t *target, late []int) error {
	sort.Ints(late)
	for len(late) > 0 {
		again, err := t.oneByOne(ctx, r, late, map[uint64]bool{})
		if err != nil {
			return err
		}
		if len(again) == len(late) {
			if r.freed(ctx, t, again) {
				continue
			}
			return r.failure(again[0], &UniqueError{r.ops[again[0]].coll.ns,
				"another document has the key, which the oplog moves or deletes only later: restore the data without its unique indexes and build them after the replay"})
		}
		late = again
	}
	return nil
}

// freed deletes the documents that the first of the waiting operations replace as a
// whole, so that their old keys are free, and reports whether it could help.
func (r *round) freed(ctx context.Context, t *target, late []int) bool {
	seen := map[uint64]bool{}
	helped := false
	for _, i := range late {
		o := &r.ops[i]
		if seen[o.doc] {
			continue
		}
		seen[o.doc] = true
		doc := r.document(i)
		if doc.Get("op").Str() != "i" {
			continue
		}
		db, coll, _ := strings.Cut(o.coll.ns, ".")
		q := bson.NewBuilder(nil).Append("_id", doc.Get("o").Doc().Get("_id")).Finish()
		reply, err := t.write(ctx, db, bson.D("delete", coll, "deletes", bson.A(bson.D("q", q, "limit", 1))))
		n, _ := reply.Get("n").AsInt64()
		helped = helped || (err == nil && n > 0)
	}
	return helped
}

// doubled reports whether a Cairn has applied everything, and has a key in a unique index
// twice for now: an operation that failed would be told by its number.
func doubled(err error) bool {
	var ce mongo.CommandError
	return errors.As(err, &ce) && ce.Code == codeDuplicateKey && bson.Raw(ce.Raw).Get("applied").IsMissing()
}

// uniqueNS is the collection in the message of a duplicate key.
func uniqueNS(msg string) string {
	_, rest, _ := strings.Cut(msg, "collection: ")
	ns, _, _ := strings.Cut(rest, " index: ")
	return strings.Clone(ns)
}

// checkUnique looks whether unique indexes that were broken on the way are whole now.
func (t *target) checkUnique(ctx context.Context, namespaces map[string]bool) error {
	for ns := range namespaces {
		db, coll, _ := strings.Cut(ns, ".")
		reply, err := t.run(ctx, db, bson.D("validate", coll, "full", true))
		if isCode(err, codeNamespaceNotFound) {
			continue // dropped since
		}
		if err != nil {
			return fmt.Errorf("looking whether the unique indexes of %s are whole: %w", ns, err)
		}
		if reply.Get("valid").Truthy() {
			continue
		}
		why := "the validate command says it is not whole"
		for _, v := range reply.Get("indexDetails").Doc().Elems() {
			for e := range v.Doc().Get("errors").Doc().Values() {
				why = e.Str()
			}
		}
		return &UniqueError{ns, "at the end of the replay " + why}
	}
	return nil
}

func isCode(err error, code int) bool {
	var se mongo.ServerError
	return errors.As(err, &se) && se.HasErrorCode(code)
}
