package command

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// FailPoints holds what configureFailPoint switched on. Names that MongoDB's driver
// tests use are known; another name is an error.
type FailPoints struct {
	mu struct {
		sync.Mutex
		points map[string]*failPoint
	}
}

type failPoint struct {
	mode      string // off, alwaysOn, times, skip, activationProbability
	left      int64
	prob      float64
	data      bson.Raw
	timesSeen int64
}

// knownFailPoints are the names configureFailPoint takes.
var knownFailPoints = []string{"failCommand", "failGetMoreAfterCursorCheckout", "hangBeforeReply", "maxTimeAlwaysTimeOut", "maxTimeNeverTimeOut", "onPrimaryTransactionalWrite", "waitInFindBeforeMakingBatch"}

// builtFailPoints are those of them that have an effect here.
var builtFailPoints = []string{"failCommand", "failGetMoreAfterCursorCheckout", "maxTimeAlwaysTimeOut", "maxTimeNeverTimeOut", "onPrimaryTransactionalWrite"}

// failCommandFields are the fields of failCommand's data that have an effect here, or,
// failInternalCommands, are true without one: no command comes from inside.
var failCommandFields = []string{"appName", "blockConnection", "blockTimeMS", "closeConnection", "errorCode", "errorExtraInfo", "errorLabels",
	"failAllCommands", "failCommands", "failInternalCommands", "namespace", "writeConcernError"}

// NewFailPoints returns an empty set.
func NewFailPoints() *FailPoints {
	f := &FailPoints{}
	f.mu.points = map[string]*failPoint{}
	return f
}

// Configure sets one fail point and returns how often it was entered before.
func (f *FailPoints) Configure(name string, mode bson.Value, data bson.Raw) (int64, error) {
	if !slices.Contains(builtFailPoints, name) {
		if slices.Contains(knownFailPoints, name) {
			return 0, mongoerr.New(mongoerr.CommandNotSupported, "fail point %s is not supported by Cairn", name)
		}
		return 0, mongoerr.New(mongoerr.FailPointSetFailed, "%s not found", name)
	}
	for k := range data.Elems() {
		if name == "failCommand" && !slices.Contains(failCommandFields, k) {
			return 0, mongoerr.New(mongoerr.CommandNotSupported, "failCommand's data.%s is not supported by Cairn", k)
		}
	}
	p := &failPoint{data: bson.Empty}
	if data != nil {
		p.data = data.Clone()
	}
	switch mode.Type {
	case bson.TypeString:
		p.mode = strings.Clone(mode.Str()) // the request's bytes are used again
		if p.mode != "off" && p.mode != "alwaysOn" {
			return 0, mongoerr.New(mongoerr.BadValue, "unknown mode: %s", p.mode)
		}
	case bson.TypeDocument:
		k, v := mode.Doc().First()
		p.mode = strings.Clone(k)
		switch k {
		case "times", "skip":
			n, ok := v.AsInt64()
			if !ok || n < 0 {
				return 0, mongoerr.New(mongoerr.BadValue, "'%s' option to 'mode' must be a non-negative integer", k)
			}
			p.left = n
		case "activationProbability":
			x, _ := v.AsFloat64()
			if x < 0 || x > 1 {
				return 0, mongoerr.New(mongoerr.BadValue, "activationProbability must be between 0.0 and 1.0")
			}
			p.prob = x
		default:
			return 0, mongoerr.New(mongoerr.BadValue, "'mode' must be one of 'off', 'alwaysOn', 'times', 'skip' or 'activationProbability'")
		}
	default:
		return 0, mongoerr.New(mongoerr.TypeMismatch, "'mode' must be a string or JSON object")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var seen int64
	if old := f.mu.points[name]; old != nil {
		seen = old.timesSeen
	}
	p.timesSeen = seen
	f.mu.points[name] = p
	return seen, nil
}

// enter decides whether name fires now for something match accepts.
func (f *FailPoints) enter(name string, match func(data bson.Raw) bool) bson.Raw {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.mu.points[name]
	if p == nil || p.mode == "off" || !match(p.data) {
		return nil
	}
	switch p.mode {
	case "times":
		if p.left == 0 {
			return nil
		}
		p.left--
	case "skip":
		if p.left > 0 {
			p.left--
			return nil
		}
	case "activationProbability":
		if rand.Float64() >= p.prob {
			return nil
		}
	}
	p.timesSeen++
	return p.data
}

// timesOut carries out a maxTimeAlwaysTimeOut.
func (f *FailPoints) timesOut() bool {
	return f.enter("maxTimeAlwaysTimeOut", func(bson.Raw) bool { return true }) != nil
}

// failCommand carries out an active failCommand for this command. stop means that
// the connection is to be dropped.
func (c *Ctx) failCommand() (stop bool, err error) {
	if !c.Node.Params.TestCommands() || c.Command.Name == "configureFailPoint" {
		return false, nil
	}
	// A getMore's own maxTimeMS is how long it waits for data.
	if c.Generic.MaxTime > 0 && c.Command.Name != "getMore" && c.Node.Fail.timesOut() {
		return false, mongoerr.New(mongoerr.MaxTimeMSExpired, "operation exceeded time limit")
	}
	data := c.Node.Fail.enter("failCommand", c.failMatches)
	if data == nil {
		return false, nil
	}
	if data.Get("blockConnection").Truthy() {
		ms, _ := data.Get("blockTimeMS").AsInt64()
		ctx, cancel := c.Op.Context()
		wait, cancelWait := context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
		<-wait.Done()
		cancelWait()
		cancel()
		if err := c.Op.Interrupt(); err != nil {
			return false, err
		}
	}
	if code := data.Get("errorCode"); code.IsNumber() {
		n, _ := code.AsInt64()
		e := mongoerr.New(mongoerr.Code(n), "Failing command via 'failCommand' failpoint")
		if e.Labels = failLabels(data); e.Labels == nil {
			e.Labels = retryLabels(c, e.Code)
		}
		if ex := data.Get("errorExtraInfo"); ex.Type == bson.TypeDocument {
			e.Extra = ex.Doc()
		}
		return false, e
	}
	if data.Get("closeConnection").Truthy() {
		c.Result.Drop = true
		return true, nil
	}
	if wce := data.Get("writeConcernError"); wce.Type == bson.TypeDocument {
		c.injectWCE, c.injectLabel = wce.Doc(), failLabels(data)
	}
	return false, nil
}

// failLabels returns the errorLabels of failCommand's data, nil if there are none: an
// empty array is given, and takes all labels away.
func failLabels(data bson.Raw) []string {
	given := data.Get("errorLabels")
	if given.Type != bson.TypeArray {
		return nil
	}
	labels := []string{}
	for v := range given.Doc().Values() {
		labels = append(labels, v.Str())
	}
	return labels
}

// noteWCE says which labels the reply gets for its writeConcernError: a retry of a
// session's write may help after some of them as it does after errors.
func (c *Ctx) noteWCE(code mongoerr.Code) {
	c.wceCode = code
	if c.wceLabels = c.injectLabel; c.injectLabel == nil {
		c.wceLabels = retryLabels(c, code)
	}
}

// failGetMore carries out a maxTimeAlwaysTimeOut for a cursor that has its time from the command
// which made it, and a failGetMoreAfterCursorCheckout, which has errorCode and, if the
// connection is to go, closeConnection.
func (c *Ctx) failGetMore(limited bool) error {
	if limited && c.Node.Fail.timesOut() {
		return mongoerr.New(mongoerr.MaxTimeMSExpired, "Executor error during getMore :: caused by :: operation exceeded time limit")
	}
	data := c.Node.Fail.enter("failGetMoreAfterCursorCheckout", func(bson.Raw) bool { return true })
	if data == nil {
		return nil
	}
	c.Result.Drop = data.Get("closeConnection").Truthy()
	code, ok := data.Get("errorCode").AsInt64()
	if !ok {
		code = int64(mongoerr.InternalError)
	}
	return mongoerr.New(mongoerr.Code(code), "Hit the 'failGetMoreAfterCursorCheckout' failpoint")
}

// failWrite carries out an onPrimaryTransactionalWrite before a unit of a retryable write is
// committed: with failBeforeCommitExceptionCode it does not happen, otherwise it does and the
// command goes on, but its reply is never sent. A retry that finds all done writes nothing.
func (c *Ctx) failWrite() error {
	const code = "failBeforeCommitExceptionCode"
	data := c.Node.Fail.enter("onPrimaryTransactionalWrite", func(bson.Raw) bool { return true })
	if data == nil {
		return nil
	}
	c.Result.Drop = c.Result.Drop || !data.Has("closeConnection") || data.Get("closeConnection").Truthy()
	if !data.Has(code) {
		return nil
	}
	n, _ := data.Get(code).AsInt64()
	e := mongoerr.New(mongoerr.Code(n), "Failing write for %s:%d due to failpoint. The write must not be reflected.", c.Generic.LSID, c.Generic.TxnNumber)
	e.Labels = retryLabels(c, e.Code)
	return e
}

func (c *Ctx) failMatches(data bson.Raw) bool {
	cmds := data.Get("failCommands")
	found := data.Get("failAllCommands").Truthy()
	if cmds.Type != bson.TypeArray && !found {
		return false
	}
	for v := range cmds.Doc().Values() {
		found = found || v.Str() == c.Command.Name || slices.Contains(c.Command.Aliases, v.Str())
	}
	if app := data.Get("appName"); found && app.Type == bson.TypeString {
		found = c.Client.Metadata().Path("application.name").Str() == app.Str()
	}
	if ns := data.Get("namespace"); found && ns.Type == bson.TypeString {
		_, v := c.first()
		if c.Command.Name == "getMore" {
			v = c.Arg("collection")
		}
		found = ns.Str() == c.DB+"."+v.Str()
	}
	return found
}

// retryableCodes are the errors after which drivers retry a write.
var retryableCodes = []mongoerr.Code{6, 7, 89, 91, 134, 189, 262, 317, 358, 9001, 10107, 11600, 11602, 13435, 13436, 384, 462}

func retryLabels(c *Ctx, code mongoerr.Code) []string {
	if c.Generic.HasTxnNumber && c.Command.Has(Txn) && slices.Contains(retryableCodes, code) {
		return []string{"RetryableWriteError"}
	}
	return nil
}
