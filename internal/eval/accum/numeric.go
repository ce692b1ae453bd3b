package accum

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
)

// sum is $sum, and $count as a sum of ones.
type sum struct{ s expr.Sum }

func newSum(*Field) State { return &sum{} }

func (s *sum) Add(v bson.Value) error {
	s.s.Add(v)
	return nil
}

func (s *sum) Value(env *expr.Env) bson.Value { return s.s.Value(env) }
func (s *sum) Size() int                      { return 0 }

func (s *sum) Save(b *bson.Builder, key string) { saveValues(b, key, s.s.Save()) }

func (s *sum) Merge(saved bson.Value) error {
	o := expr.LoadSum(values(saved))
	s.s.Merge(&o)
	return nil
}

func saveValues(b *bson.Builder, key string, vs []bson.Value) {
	b.Array(key)
	for _, v := range vs {
		b.Append("", v)
	}
	b.End()
}

func values(a bson.Value) []bson.Value {
	var vs []bson.Value
	for v := range a.Doc().Values() {
		vs = append(vs, v)
	}
	return vs
}

type avg struct {
	s expr.Sum
	n int64
}

func newAvg(*Field) State { return &avg{} }

func (a *avg) Add(v bson.Value) error {
	if a.s.Add(v) {
		a.n++
	}
	return nil
}

func (a *avg) Value(env *expr.Env) bson.Value { return a.s.Average(env, a.n) }
func (a *avg) Size() int                      { return 0 }

func (a *avg) Save(b *bson.Builder, key string) {
	saveValues(b, key, append([]bson.Value{bson.V(a.n)}, a.s.Save()...))
}

func (a *avg) Merge(saved bson.Value) error {
	vs := values(saved)
	n, _ := vs[0].AsInt64()
	a.n += n
	o := expr.LoadSum(vs[1:])
	a.s.Merge(&o)
	return nil
}

type stdDev struct {
	s      expr.StdDev
	sample bool
}

func newStdDevPop(*Field) State  { return &stdDev{} }
func newStdDevSamp(*Field) State { return &stdDev{sample: true} }

func (d *stdDev) Add(v bson.Value) error {
	d.s.Add(v)
	return nil
}

func (d *stdDev) Value(env *expr.Env) bson.Value { return d.s.Value(env, d.sample) }
func (d *stdDev) Size() int                      { return 0 }

func (d *stdDev) Save(b *bson.Builder, key string) {
	b.Any(key, bson.A(d.s.Count, d.s.Mean, d.s.M2))
}

func (d *stdDev) Merge(saved bson.Value) error {
	vs := values(saved)
	n, _ := vs[0].AsInt64()
	d.s.Merge(&expr.StdDev{Count: n, Mean: vs[1].Double(), M2: vs[2].Double()})
	return nil
}
