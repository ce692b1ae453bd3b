package accum

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
)

// single keeps one value: the first, last, least or greatest.
type single struct {
	take func(cur, v bson.Value) bool // whether v replaces cur
	cur  bson.Value
	seen bool
	buf  []byte
}

func (s *single) Add(v bson.Value) error {
	if s.seen && !s.take(s.cur, v) {
		return nil
	}
	s.seen = true
	s.buf = append(s.buf[:0], v.Data...)
	s.cur = bson.Value{Type: v.Type, Data: s.buf}
	return nil
}

func (s *single) Value(*expr.Env) bson.Value {
	if s.cur.IsMissing() {
		return bson.Value{Type: bson.TypeNull}
	}
	return s.cur
}

func (s *single) Size() int { return cap(s.buf) }

func (s *single) Save(b *bson.Builder, key string) {
	b.Array(key)
	if s.seen && s.cur.IsMissing() {
		b.Bool("", true) // a missing value was seen, which is not the same as none
		b.Bool("", true)
	} else if s.seen {
		b.Append("", s.cur)
	}
	b.End()
}

func (s *single) Merge(saved bson.Value) error {
	switch vs := values(saved); len(vs) {
	case 1:
		return s.Add(vs[0])
	case 2:
		return s.Add(bson.Value{})
	}
	return nil
}

func newFirst(*Field) State {
	return &single{take: func(_, _ bson.Value) bool { return false }}
}

func newLast(*Field) State {
	return &single{take: func(_, _ bson.Value) bool { return true }}
}

func newMin(f *Field) State { return newExtreme(f, -1) }
func newMax(f *Field) State { return newExtreme(f, 1) }

// extreme ignores null and missing values.
type extreme struct{ single }

func newExtreme(f *Field, sign int) State {
	return &extreme{single{take: func(cur, v bson.Value) bool { return f.compare(v, cur)*sign > 0 }}}
}

func (e *extreme) Add(v bson.Value) error {
	if v.IsNullish() {
		return nil
	}
	return e.single.Add(v)
}

// Merge must come back to this type's Add.
func (e *extreme) Merge(saved bson.Value) error {
	for _, v := range values(saved) {
		if err := e.Add(v); err != nil {
			return err
		}
	}
	return nil
}
