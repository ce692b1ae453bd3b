package restore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	driver "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/cairndb/cairn/internal/bson"
)

// Codes of write errors that a restore goes on after.
const (
	codeDuplicateKey = 11000
	codeValidation   = 121
	codeMixedSchema  = 408
)

// insertOptions are the same for all inserts of a restore.
type insertOptions struct {
	writeConcern     driver.D // nil: the server's default
	unacknowledged   bool     // w: 0, so that nothing is counted
	bypassValidation bool
	objcheck         bool
	stopOnError      bool
	logEach          bool // a line for each refused document, as the original
	retry            time.Duration
	sessions         *sessions
	memory           func(bytes int64) // nil, or told what large documents need
}

// failures tell of the documents that a namespace did not take.
type failures struct {
	byCode map[int]int64
	first  []failure // the first few
}

type failure struct {
	id  string // the document's _id as extended JSON
	msg string
}

// keepFailures is how many refused documents of a namespace are named.
const keepFailures = 5

func (f *failures) add(code int, id, msg string) {
	if f.byCode == nil {
		f.byCode = map[int]int64{}
	}
	f.byCode[code]++
	if len(f.first) < keepFailures {
		f.first = append(f.first, failure{id, msg})
	}
}

func (f *failures) merge(o *failures) {
	for code, n := range o.byCode {
		if f.byCode == nil {
			f.byCode = map[int]int64{}
		}
		f.byCode[code] += n
	}
	if room := keepFailures - len(f.first); room > 0 {
		f.first = append(f.first, o.first[:min(room, len(o.first))]...)
	}
}

// outcome is what became of a batch. With err the restore ends.
type outcome struct {
	inserted, failed int64
	failures         failures
	err              error
}

func docSize(p []byte) int { return int(binary.LittleEndian.Uint32(p)) }

// checkDocument is --objcheck.
func checkDocument(doc []byte) error { return bson.Validate(doc, 2*bson.MaxDepth) }

// begin starts a command in an empty batch.
func (l *loader) begin(b *batch) {
	if l.head == nil {
		l.head = l.header()
	}
	b.l, b.docs, b.bytes, b.seq = l, 0, 0, l.next
	l.next++
	b.start(l.head)
	l.cur = b
}

// header returns the command up to the array of documents, which comes last: the
// documents are put behind it as they are.
func (l *loader) header() []byte {
	p := l.p
	b := bson.NewBuilder(nil)
	b.Str("insert", l.coll)
	b.Bool("ordered", l.ordered)
	if l.bypass {
		b.Bool("bypassDocumentValidation", true)
	}
	if emptyTimestamps(p.server.Version) {
		b.Bool("bypassEmptyTsReplacement", true)
	}
	if p.server.RawData() {
		b.Bool("rawData", true)
	}
	head := b.Buffer()
	if p.opts.writeConcern != nil {
		if wc, err := driver.Marshal(p.opts.writeConcern); err == nil {
			b.AppendDoc("writeConcern", wc)
			head = b.Buffer()
		}
	}
	return head
}

func (b *batch) start(head []byte) {
	b.cmd = append(b.cmd[:0], head...)
	b.cmd = append(b.cmd, byte(bson.TypeArray))
	b.cmd = append(b.cmd, "documents\x00"...)
	b.array = len(b.cmd)
	b.cmd = append(b.cmd, 0, 0, 0, 0)
}

// add puts a document into the array.
func (b *batch) add(doc []byte) {
	b.cmd = append(b.cmd, byte(bson.TypeDocument))
	b.cmd = strconv.AppendInt(b.cmd, int64(b.docs), 10)
	b.cmd = append(b.cmd, 0)
	b.cmd = append(b.cmd, doc...)
	b.docs++
	b.bytes += int64(len(doc))
}

// finish closes the array and the command. txn, if not negative, makes the insert one
// that can be sent again without happening twice.
func (b *batch) finish(txn int64) driver.Raw {
	b.cmd = append(b.cmd, 0)
	binary.LittleEndian.PutUint32(b.cmd[b.array:], uint32(len(b.cmd)-b.array))
	if txn >= 0 {
		b.cmd = append(b.cmd, byte(bson.TypeInt64))
		b.cmd = append(b.cmd, "txnNumber\x00"...)
		b.cmd = binary.LittleEndian.AppendUint64(b.cmd, uint64(txn))
	}
	b.cmd = append(b.cmd, 0)
	binary.LittleEndian.PutUint32(b.cmd, uint32(len(b.cmd)))
	return driver.Raw(b.cmd)
}

// document returns the i-th document of a batch.
func (b *batch) document(i int) bson.Raw {
	it := bson.Raw(b.cmd[b.array : b.array+docSize(b.cmd[b.array:])]).Iter()
	for n := 0; it.Next(); n++ {
		if n == i {
			return it.Value().Doc()
		}
	}
	return nil
}

// emptyTimestamps says whether a server can be told to keep Timestamp(0,0).
func emptyTimestamps(v [3]int) bool {
	switch {
	case v[0] >= 8:
		return true
	case v[1] != 0:
		return false
	}
	return v[0] == 7 && v[2] >= 13 || v[0] == 6 && v[2] >= 17 || v[0] == 5 && v[2] >= 29
}

// sender is one worker's way to the server.
type sender struct {
	p    *pool
	sess *numbered
}

// numbered is a session whose numbers make inserts repeatable: the server takes each
// number once. They are counted here, past what the driver has counted, so the session
// never goes back to the driver's pool.
type numbered struct {
	s   *mongo.Session
	txn int64
}

// sessions are the sessions of a restore, for whichever worker needs one.
type sessions struct {
	client *mongo.Client
	mu     sync.Mutex
	all    []*numbered
	free   []*numbered
}

// firstTxn is past any number that the driver has used in a session.
const firstTxn = 1 << 32

func (s *sessions) get() (*numbered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		x := s.free[n-1]
		s.free = s.free[:n-1]
		return x, nil
	}
	sess, err := s.client.StartSession(options.Session().SetCausalConsistency(false))
	if err != nil {
		return nil, err
	}
	x := &numbered{s: sess, txn: firstTxn}
	s.all = append(s.all, x)
	return x, nil
}

func (s *sessions) put(x *numbered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, x)
}

// end tells the server that the sessions are not used any more. If that fails the server
// ends them by itself after a while.
func (s *sessions) end(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids driver.A
	for _, x := range s.all {
		ids = append(ids, x.s.ID())
	}
	if len(ids) > 0 && ctx.Err() == nil {
		_ = s.client.Database("admin").RunCommand(ctx, driver.D{{Key: "endSessions", Value: ids}}).Err()
	}
	s.all, s.free = nil, nil
}

func (s *sender) close() {
	if s.sess != nil {
		s.p.opts.sessions.put(s.sess)
	}
}

// insert sends a batch and books every document of it: inserted, failed, or the restore
// ends with an error.
func (s *sender) insert(ctx context.Context, b *batch) outcome {
	l := b.l
	out := outcome{}
	cur := b
	for {
		n, werrs, resent, err := s.send(ctx, cur)
		if err != nil {
			out.err = fmt.Errorf("inserting into %s.%s: %w", l.db, l.coll, err)
			return out
		}
		bad := werrs
		if l.checkID || resent {
			if bad, err = s.present(ctx, cur, werrs); err != nil {
				out.err = err
				return out
			}
		}
		if !emptyTimestamps(s.p.server.Version) {
			if err := s.fixTimestamps(ctx, cur, bad); err != nil {
				out.err = err
				return out
			}
		}
		out.inserted += int64(n + len(werrs) - len(bad))
		again, err := s.book(ctx, cur, bad, &out)
		if err != nil {
			out.err = err
			return out
		}
		rest := again
		if l.ordered && len(werrs) > 0 {
			for i := werrs[0].Index + 1; i < cur.docs; i++ { // the server stopped there
				rest = append(rest, i)
			}
		}
		if len(rest) == 0 {
			if got := out.inserted + out.failed; got != int64(b.docs) {
				out.err = fmt.Errorf("inserting into %s.%s: the server acknowledged %d of %d documents", l.db, l.coll, got, b.docs)
			}
			return out
		}
		cur = cur.subset(rest)
		cur.mixed = len(again) > 0
	}
}

// subset makes a batch of some documents of another.
func (b *batch) subset(which []int) *batch {
	c := &batch{l: b.l, seq: b.seq}
	c.start(b.l.head)
	it := bson.Raw(b.cmd[b.array : b.array+docSize(b.cmd[b.array:])]).Iter()
	next := 0
	for n := 0; it.Next() && next < len(which); n++ {
		if which[next] == n {
			c.add(it.Value().Doc())
			next++
		}
	}
	return c
}

// book counts refused documents. again are those that are to be sent once more.
func (s *sender) book(ctx context.Context, b *batch, bad []mongo.WriteError, out *outcome) (again []int, err error) {
	l := b.l
	mixed, fatal := false, false
	for _, we := range bad {
		if we.Code == codeMixedSchema && !b.mixed {
			mixed = true
			again = append(again, we.Index)
			continue
		}
		id := "none"
		if v := b.document(we.Index).Get("_id"); !v.IsMissing() {
			id = v.String()
		}
		out.failed++
		out.failures.add(we.Code, id, we.Message)
		if s.p.opts.stopOnError || we.Code != codeDuplicateKey && we.Code != codeValidation {
			fatal = true
			continue
		}
		if s.p.opts.logEach {
			s.p.log.Always("continuing through error: %v", we.Message)
		}
	}
	if fatal {
		return nil, mongo.BulkWriteException{WriteErrors: bulkErrors(bad)}
	}
	if mixed {
		logical := l.coll
		if !s.p.server.RawData() {
			logical = trimBuckets(l.coll)
		}
		err := s.p.client.Database(l.db).RunCommand(ctx, driver.D{{Key: "collMod", Value: logical}, {Key: "timeseriesBucketsMayHaveMixedSchemaData", Value: true}}).Err()
		if err != nil {
			return nil, fmt.Errorf("failed to enable mixed schema in a timeseries bucket: %w", err)
		}
	}
	return again, nil
}

func bulkErrors(w []mongo.WriteError) []mongo.BulkWriteError {
	out := make([]mongo.BulkWriteError, len(w))
	for i := range w {
		out[i] = mongo.BulkWriteError{WriteError: w[i]}
	}
	return out
}

// send runs the command until the server answers or the time for retries is over. n is
// how many documents it says it has inserted. resent says that documents may be there
// because of an earlier try, which a server without retryable writes does not tell.
func (s *sender) send(ctx context.Context, b *batch) (n int, werrs []mongo.WriteError, resent bool, err error) {
	txn := int64(-1)
	if s.p.server.SetName != "" || s.p.server.Mongos {
		if s.sess == nil {
			if s.sess, err = s.p.opts.sessions.get(); err != nil {
				return 0, nil, false, err
			}
		}
		s.sess.txn++
		txn = s.sess.txn
	}
	cmd := b.finish(txn)
	run := ctx
	if s.sess != nil {
		run = mongo.NewSessionContext(ctx, s.sess.s)
	}
	var since time.Time
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		res := s.p.client.Database(b.l.db).RunCommand(run, cmd)
		raw, err := res.Raw()
		var we mongo.WriteException
		switch {
		case err == nil:
			if s.p.opts.unacknowledged {
				return b.docs, nil, resent, nil
			}
			return count(raw), nil, resent, nil
		case errors.As(err, &we) && we.WriteConcernError == nil:
			return count(we.Raw), we.WriteErrors, resent, nil
		case we.WriteConcernError != nil && !transientConcern(we.WriteConcernError.Code):
			return 0, nil, resent, err
		case we.WriteConcernError != nil:
		case !transient(err):
			return 0, nil, resent, err
		}
		if ctx.Err() != nil {
			return 0, nil, resent, context.Cause(ctx)
		}
		now := time.Now()
		if since.IsZero() {
			since = now
			s.p.log.Info("inserting into %s.%s: %v; trying again", b.l.db, b.l.coll, err)
		}
		if now.Sub(since) > s.p.opts.retry {
			return 0, nil, resent, err
		}
		resent = txn < 0 || resent
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return 0, nil, resent, context.Cause(ctx)
		}
	}
}

func count(raw driver.Raw) int {
	n, _ := raw.Lookup("n").AsInt64OK()
	return int(n)
}

// transient says that the same command may succeed later: the server is going, coming or
// no longer the one that takes writes.
func transient(err error) bool {
	if mongo.IsNetworkError(err) || mongo.IsTimeout(err) {
		return true
	}
	var again interface{ Retryable() bool } // a connection that went while it was waited for
	if errors.As(err, &again) && again.Retryable() {
		return true
	}
	var sel topology.ServerSelectionError
	var closed topology.WaitQueueTimeoutError
	if errors.As(err, &sel) || errors.As(err, &closed) {
		return true
	}
	var ce mongo.CommandError
	return errors.As(err, &ce) &&
		(ce.HasErrorLabel("RetryableWriteError") || ce.HasErrorLabel("SystemOverloadedError") || transientConcern(int(ce.Code)))
}

// transientConcern are the codes that drivers retry writes after.
func transientConcern(code int) bool {
	switch code {
	case 6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436:
		return true
	}
	return false
}

// present takes out of werrs the duplicate keys of documents that are in the collection
// byte by byte: an earlier try, or the restore that is resumed, has inserted them.
func (s *sender) present(ctx context.Context, b *batch, werrs []mongo.WriteError) ([]mongo.WriteError, error) {
	const chunk = 200
	var bad []mongo.WriteError
	same := map[int]bool{}
	for at := 0; at < len(werrs); at += chunk {
		part := werrs[at:min(at+chunk, len(werrs))]
		ids := bson.NewArrayBuilder(nil)
		byID := map[string]int{}
		for _, we := range part {
			id := b.document(we.Index).Get("_id")
			if we.Code != codeDuplicateKey || id.IsMissing() {
				continue
			}
			ids.Append("", id)
			byID[string(id.Type)+string(id.Data)] = we.Index
		}
		if len(byID) == 0 {
			continue
		}
		filter := bson.NewBuilder(nil)
		filter.Doc("_id").AppendArray("$in", bson.Array(ids.Finish())).End()
		cur, err := s.p.client.Database(b.l.db).Collection(b.l.coll).Find(ctx, driver.Raw(filter.Finish()))
		if err != nil {
			return nil, fmt.Errorf("looking for documents of %s.%s that are there already: %w", b.l.db, b.l.coll, err)
		}
		for cur.Next(ctx) {
			got := bson.Raw(cur.Current)
			id := got.Get("_id")
			if i, ok := byID[string(id.Type)+string(id.Data)]; ok && bytes.Equal(b.document(i), got) {
				same[i] = true
			}
		}
		err = cur.Err()
		if err = errors.Join(err, cur.Close(ctx)); err != nil {
			return nil, fmt.Errorf("looking for documents of %s.%s that are there already: %w", b.l.db, b.l.coll, err)
		}
	}
	for _, we := range werrs {
		if !same[we.Index] {
			bad = append(bad, we)
		}
	}
	return bad, nil
}

// fixTimestamps gives documents back the empty timestamps that a server which cannot be
// told to keep them has filled in.
func (s *sender) fixTimestamps(ctx context.Context, b *batch, bad []mongo.WriteError) error {
	refused := map[int]bool{}
	for _, we := range bad {
		refused[we.Index] = true
	}
	it := bson.Raw(b.cmd[b.array : b.array+docSize(b.cmd[b.array:])]).Iter()
	for n := 0; it.Next(); n++ {
		doc := it.Value().Doc()
		if refused[n] || !hasEmptyTimestamp(doc) {
			continue
		}
		id := doc.Get("_id")
		_, err := s.p.client.Database(b.l.db).Collection(b.l.coll).UpdateOne(ctx,
			driver.D{{Key: "_id", Value: driver.RawValue{Type: driver.Type(id.Type), Value: id.Data}}},
			mongo.Pipeline{{{Key: "$replaceRoot", Value: driver.D{{Key: "newRoot", Value: driver.D{{Key: "$literal", Value: driver.Raw(doc)}}}}}}})
		if err != nil {
			return fmt.Errorf("failed to fix document with empty timestamp (_id=%s): %w", id, err)
		}
	}
	return nil
}

// hasEmptyTimestamp says whether a field of the document itself is Timestamp(0, 0): only
// those does a server fill in.
func hasEmptyTimestamp(doc bson.Raw) bool {
	it := doc.Iter()
	for it.Next() {
		if v := it.Value(); v.Type == bson.TypeTimestamp && v.Timestamp() == 0 && it.Key() != "_id" {
			return true
		}
	}
	return false
}
