package accum

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// maxArrayBytes bounds what one $push or $addToSet may gather.
const maxArrayBytes = 100 << 20

func errTooMuch(op string) error {
	return mongoerr.New(146, "%s used too much memory and cannot spill to disk. Memory limit: %d bytes", op, maxArrayBytes)
}

// push gathers all values that are not missing, in the form of the resulting array.
type push struct{ b *bson.Builder }

func newPush(*Field) State { return &push{} }

func (p *push) builder() *bson.Builder {
	if p.b == nil {
		p.b = bson.NewArrayBuilder(nil)
	}
	return p.b
}

func (p *push) Add(v bson.Value) error {
	b := p.builder()
	b.Append("", v)
	if b.Len() > maxArrayBytes {
		return errTooMuch("$push")
	}
	return nil
}

func (p *push) array() bson.Value {
	if p.b == nil {
		return bson.A().Value()
	}
	// Close a copy of the frame: more values may follow.
	b := p.b.Buffer()
	n := len(b) + 1
	out := append(b[:len(b):len(b)], 0)
	out[0], out[1], out[2], out[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	return bson.Value{Type: bson.TypeArray, Data: out}
}

func (p *push) Value(*expr.Env) bson.Value { return p.array() }

func (p *push) Size() int {
	if p.b == nil {
		return 0
	}
	return cap(p.b.Buffer())
}

func (p *push) Save(b *bson.Builder, key string) { b.Append(key, p.array()) }

func (p *push) Merge(saved bson.Value) error {
	for v := range saved.Doc().Values() {
		if err := p.Add(v); err != nil {
			return err
		}
	}
	return nil
}

// addToSet is push without values that are already there.
type addToSet struct {
	push
	f    *Field
	seen map[string]struct{}
	buf  []byte
	size int
}

func newAddToSet(f *Field) State { return &addToSet{f: f, seen: map[string]struct{}{}} }

func (s *addToSet) Add(v bson.Value) error {
	if v.IsMissing() {
		return nil
	}
	s.buf = s.f.key(s.buf[:0], v)
	if _, ok := s.seen[string(s.buf)]; ok {
		return nil
	}
	s.seen[string(s.buf)] = struct{}{}
	s.size += len(s.buf) + 48
	if s.Size() > maxArrayBytes {
		return errTooMuch("$addToSet")
	}
	return s.push.Add(v)
}

func (s *addToSet) Size() int { return s.push.Size() + s.size }

// Merge must come back to this type's Add.
func (s *addToSet) Merge(saved bson.Value) error {
	for v := range saved.Doc().Values() {
		if err := s.Add(v); err != nil {
			return err
		}
	}
	return nil
}

// mergeObjects merges documents, later fields winning.
type mergeObjects struct {
	m    expr.DocMerger
	size int
}

func newMergeObjects(*Field) State { return &mergeObjects{} }

func (m *mergeObjects) Add(v bson.Value) error {
	m.size += len(v.Data)
	return m.m.Add(v.Clone())
}

func (m *mergeObjects) Value(env *expr.Env) bson.Value { return env.Doc(m.m.Fields()) }
func (m *mergeObjects) Size() int                      { return m.size }

func (m *mergeObjects) Save(b *bson.Builder, key string) {
	b.Append(key, m.Value(&expr.Env{}))
}

func (m *mergeObjects) Merge(saved bson.Value) error { return m.Add(saved) }
