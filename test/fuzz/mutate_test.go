package fuzz

import (
	"math"
	"math/rand/v2"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// pool is what mutations take keys and values from: everything the seeds hold, and
// values that are known to be difficult.
type pool struct {
	keys   []string
	values []bson.Value
}

func newPool(seeds []bson.Raw) *pool {
	p := &pool{keys: []string{"", "$", ".", "a.", "$$", "a.b.0.c", "\xff", "$[]", "$[x]", "a.$", "_id", strings.Repeat("k", 300)}}
	hard := extjson.MustParse(`{"v": [null, true, {"$numberInt": "-1"}, {"$numberInt": "2147483647"}, {"$numberLong": "-9223372036854775808"}, {"$numberLong": "9223372036854775807"},
		{"$numberDouble": "NaN"}, {"$numberDouble": "-Infinity"}, {"$numberDouble": "1e300"}, {"$numberDouble": "-0.0"}, {"$numberDouble": "0.5"},
		{"$numberDecimal": "NaN"}, {"$numberDecimal": "1E+6000"}, {"$numberDecimal": "-0E-6000"}, "", "$", "$a", "$$ROOT", "$$NOW.x", "c", "test.c", "system.indexes", "\u0000", "a\u0000b", "é",
		{"$minKey": 1}, {"$maxKey": 1}, {"$undefined": true}, {"$regularExpression": {"pattern": "(", "options": ""}}, {"$regularExpression": {"pattern": "a|b", "options": "i"}},
		{"$timestamp": {"t": 0, "i": 0}}, {"$timestamp": {"t": 4294967295, "i": 4294967295}}, {"$date": {"$numberLong": "9223372036854775807"}}, {"$date": {"$numberLong": "-9223372036854775808"}},
		{"$binary": {"base64": "", "subType": "00"}}, {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAA==", "subType": "04"}}, {"$binary": {"base64": "AA==", "subType": "80"}}, {"$code": "f"}, {"$code": "f", "$scope": {"a": 1}}, {"$symbol": "s"},
		{"$oid": "000000000000000000000000"}, {"$dbPointer": {"$ref": "c", "$id": {"$oid": "000000000000000000000000"}}}, {}, [], [[]], [null], {"a": {"b": [1, {"c": 2}]}}, {"$a": 1}, {"": ""}, [[1, 2], [3, [4]]]]}`)
	for v := range hard.Get("v").Doc().Values() {
		p.values = append(p.values, v)
	}
	deep := bson.D("a", 1)
	for range 150 {
		deep = bson.D("a", deep)
	}
	p.values = append(p.values, bson.V(deep))
	for _, s := range seeds {
		p.collect(s)
	}
	return p
}

func (p *pool) collect(d bson.Raw) {
	for k, v := range d.Elems() {
		p.keys = append(p.keys, k)
		p.values = append(p.values, v)
		if v.Type == bson.TypeDocument || v.Type == bson.TypeArray {
			p.collect(v.Doc())
		}
	}
}

// mutator changes a document at about one in rate places.
type mutator struct {
	*pool
	rng  *rand.Rand
	rate int
}

func (m *mutator) hit() bool          { return m.rng.IntN(m.rate) == 0 }
func (m *mutator) key() string        { return m.keys[m.rng.IntN(len(m.keys))] }
func (m *mutator) value() bson.Value  { return m.values[m.rng.IntN(len(m.values))] }
func (m *mutator) number() bson.Value { return bson.V(math.Float64frombits(m.rng.Uint64())) }

// command mutates a command's document; its name stays in front.
func (m *mutator) command(d bson.Raw) bson.Raw {
	b := bson.NewBuilder(nil)
	name, v := d.First()
	m.element(b, name, v)
	rest := bson.NewBuilder(nil)
	it := d.Iter()
	it.Next()
	for it.Next() {
		rest.Append(it.Key(), it.Value())
	}
	m.elements(b, rest.Finish(), false)
	return b.Finish()
}

func (m *mutator) elements(b *bson.Builder, d bson.Raw, array bool) {
	for k, v := range d.Elems() {
		if m.hit() {
			switch m.rng.IntN(5) {
			case 0: // dropped
				continue
			case 1: // twice
				m.element(b, k, v)
			case 2: // under another name
				if !array {
					k = m.key()
				}
			case 3:
				b.Append(m.key(), m.value())
			case 4: // wrapped
				b.Doc(k)
				m.element(b, m.key(), v)
				b.End()
				continue
			}
		}
		m.element(b, k, v)
	}
	if m.rng.IntN(2*m.rate) == 0 {
		b.Append(m.key(), m.value())
	}
}

func (m *mutator) element(b *bson.Builder, k string, v bson.Value) {
	switch {
	case m.hit() && m.rng.IntN(4) == 0:
		b.Append(k, m.number())
	case m.hit():
		b.Append(k, m.value())
	case v.Type == bson.TypeDocument:
		b.Doc(k)
		m.elements(b, v.Doc(), false)
		b.End()
	case v.Type == bson.TypeArray:
		b.Array(k)
		m.elements(b, v.Doc(), true)
		b.End()
	default:
		b.Append(k, v)
	}
}
