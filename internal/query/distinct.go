package query

import (
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/keystring"
	"github.com/cairndb/cairn/internal/eval/collate"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/query/exec"
	"github.com/cairndb/cairn/internal/query/plan"
)

// Distinct implements Executor.
func (l *Local) Distinct(op *OpContext, r *DistinctRequest, out *bson.Builder) error {
	if strings.HasPrefix(r.Key, "$") || strings.IndexByte(r.Key, 0) >= 0 {
		return mongoerr.New(mongoerr.BadValue, "Illegal distinct key: %s", r.Key)
	}
	view, err := l.openView(op, &r.NS)
	if err != nil {
		return err
	}
	defer view.close()
	if view.snap != nil {
		op.ReadConcern.AtClusterTime = view.ts // that of a view's pipeline too
	}
	t := l.resolveAt(view, r.NS)
	coll, err := t.collation(r.Collation)
	if err == nil {
		err = coll.Err()
	}
	if err != nil {
		return err
	}
	d := &distinctValues{seen: map[string]struct{}{}, coll: coll}
	if t.view != nil {
		return l.distinctOnView(op, r, d, out)
	}
	if t.coll != nil {
		if err := l.distinct(op, r, t, view, d); err != nil {
			return err
		}
	}
	if err := d.append(out); err != nil || view.snap == nil {
		return err
	}
	out.Timestamp("atClusterTime", view.ts)
	return nil
}

func (l *Local) distinct(op *OpContext, r *DistinctRequest, t *target, view *view, d *distinctValues) error {
	q, full, sc, err := l.countQuery(op, &CountRequest{NS: r.NS, Query: r.Query, Hint: r.Hint}, t, d.coll)
	if err != nil {
		return err
	}
	q.CountOnly, q.NeedRecord = false, true
	o := l.execOptions(op, sc, full, view)
	if s := plan.DistinctPlan(q, t.indexes, r.Key); s != nil {
		return l.distinctScan(op, r, t, exec.New(t.x, s, o), d)
	}
	x, err := l.start(op, t, q, o)
	if err != nil {
		return err
	}
	defer x.Close()
	path := match.NewPath(r.Key)
	var row exec.Row
	for n := 1; ; n++ {
		ok, err := x.Next(&row)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := d.addPath(row.Doc, path.Parts()); err != nil {
			return err
		}
		if n%tickEvery == 0 {
			if err := x.Tick(); err != nil {
				return err
			}
		}
	}
	op.Stats.KeysExamined, op.Stats.DocsExamined = exec.Examined(x.Plan.Root)
	if needsDurable(op) {
		return l.waitDurable(op)
	}
	return nil
}

// distinctScan takes the values from the keys of an index. A null key may stand for a
// missing field: the document tells.
func (l *Local) distinctScan(op *OpContext, r *DistinctRequest, t *target, x *exec.Exec, d *distinctValues) error {
	defer x.Close()
	op.notePlan(x.Plan.Summary())
	parts := strings.Split(r.Key, ".")
	nullDone := false
	var row exec.Row
	for n := 1; ; n++ {
		ok, err := x.Next(&row)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		v := row.Doc.Get("v")
		switch {
		case v.Type == bson.TypeNull && !nullDone:
			doc, err := t.coll.Get(x.Opts.Reader, row.ID, nil)
			if err != nil {
				continue // deleted meanwhile
			}
			before := len(d.vals)
			if err := d.addPath(doc, parts); err != nil {
				return err
			}
			nullDone = len(d.vals) > before
		case v.IsNullish():
		default:
			if err := d.add(v); err != nil {
				return err
			}
		}
		if n%tickEvery == 0 {
			if err := x.Tick(); err != nil {
				return err
			}
		}
	}
	op.Stats.KeysExamined, _ = exec.Examined(x.Plan.Root)
	if needsDurable(op) {
		return l.waitDurable(op)
	}
	return nil
}

// distinctValues collects values, each once.
type distinctValues struct {
	seen map[string]struct{}
	vals []bson.Value
	key  []byte
	size int
	coll *collate.Collator
}

func (d *distinctValues) add(v bson.Value) error {
	d.key = keystring.Append(d.key[:0], d.coll.Value(v), false, nil)
	if _, dup := d.seen[string(d.key)]; dup {
		return nil
	}
	d.seen[string(d.key)] = struct{}{}
	if d.size += len(v.Data) + 8; d.size > bson.MaxDocSize {
		return mongoerr.New(17217, "distinct too big, 16mb cap")
	}
	d.vals = append(d.vals, v.Clone())
	return nil
}

// addPath adds the values at a path: through arrays at every level, and the elements of
// an array at its end.
func (d *distinctValues) addPath(doc bson.Raw, parts []string) error {
	v := doc.Get(parts[0])
	if len(parts) > 1 {
		return d.addBelow(v, parts[1:])
	}
	if v.IsMissing() {
		return nil
	}
	if v.Type != bson.TypeArray {
		return d.add(v)
	}
	for e := range v.Doc().Values() {
		if err := d.add(e); err != nil {
			return err
		}
	}
	return nil
}

func (d *distinctValues) addBelow(v bson.Value, parts []string) error {
	switch v.Type {
	case bson.TypeDocument:
		return d.addPath(v.Doc(), parts)
	case bson.TypeArray:
		i := 0
		for e := range v.Doc().Values() {
			if e.Type == bson.TypeDocument {
				if err := d.addPath(e.Doc(), parts); err != nil {
					return err
				}
			}
			i++
		}
		if isDigits(parts[0]) { // a.0: the element itself
			return d.addPath(v.Doc(), parts)
		}
	}
	return nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// append adds the values in order.
func (d *distinctValues) append(out *bson.Builder) error {
	slices.SortStableFunc(d.vals, d.coll.Compare)
	out.Array("values")
	for _, v := range d.vals {
		out.Append("", v)
	}
	out.End()
	return nil
}

// distinctOnView takes the values from the documents that the view's pipeline gives.
func (l *Local) distinctOnView(op *OpContext, r *DistinctRequest, d *distinctValues, out *bson.Builder) error {
	var stages []bson.Raw
	if !r.Query.IsEmpty() {
		stages = append(stages, bson.D("$match", r.Query))
	}
	docs, err := l.aggregateAll(op, &AggregateRequest{NS: r.NS, Pipeline: stages, Hint: r.Hint, Collation: r.Collation})
	if err != nil {
		return err
	}
	parts := strings.Split(r.Key, ".")
	for _, doc := range docs {
		if err := d.addPath(doc, parts); err != nil {
			return err
		}
	}
	return d.append(out)
}
