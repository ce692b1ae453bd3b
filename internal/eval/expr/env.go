package expr

import (
	"encoding/binary"
	"math"

	"github.com/cairndb/cairn/internal/bson"
)

// Env is what an expression is evaluated in: the document, the variables and an arena
// for results. An Env belongs to one goroutine. The zero Env is usable.
type Env struct {
	// Root is the current document: $$ROOT and, unless rebound, $$CURRENT.
	Root bson.Raw
	// Now is $$NOW.
	Now bson.DateTime
	// ClusterTime is $$CLUSTER_TIME; zero where there is none.
	ClusterTime bson.Timestamp
	// UserRoles is $$USER_ROLES, an array; missing where there is no user.
	UserRoles bson.Value
	// SearchMeta is $$SEARCH_META.
	SearchMeta bson.Value
	// Meta returns the metadata that {$meta: name} names, or missing. It may be nil.
	Meta func(name string) bson.Value
	// Interrupt is asked now and then by operators that may run long; it may be nil.
	Interrupt func() error
	// Rand returns a number in [0, 1) for $rand and $sampleRate. Without it these are errors.
	Rand func() float64

	vars  []bson.Value
	stack []bson.Value
	arena []byte
	steps uint32
}

// Reset makes root the current document and gives the arena's bytes free again.
func (env *Env) Reset(root bson.Raw) {
	env.Root = root
	env.arena = env.arena[:0]
	env.stack = env.stack[:0]
}

// Rewind gives the arena's bytes free again: all results so far become invalid.
func (env *Env) Rewind() { env.arena = env.arena[:0] }

// Sub returns a new Env with the same surroundings and variables, for a pipeline that
// runs inside this one.
func (env *Env) Sub() *Env {
	s := *env
	s.vars = make([]bson.Value, len(env.vars))
	for i, v := range env.vars {
		s.vars[i] = v.Clone()
	}
	s.stack, s.arena = nil, nil
	return &s
}

// InheritVars copies the values of all variables of from: the Env of an inner pipeline
// follows that of the outer one.
func (env *Env) InheritVars(from *Env) {
	for i, v := range from.vars {
		env.SetVar(VarID(i), v.Clone())
	}
}

// SetVar binds a variable that was made with ParseContext.With.
func (env *Env) SetVar(id VarID, v bson.Value) {
	for int(id) >= len(env.vars) {
		env.vars = append(env.vars, bson.Value{})
	}
	env.vars[id] = v
}

// Var returns the value of a variable, or missing.
func (env *Env) Var(id VarID) bson.Value {
	if int(id) < len(env.vars) {
		return env.vars[id]
	}
	return bson.Value{}
}

// tick asks the interrupt once in a thousand calls.
func (env *Env) tick() error {
	env.steps++
	if env.steps&1023 == 0 && env.Interrupt != nil {
		return env.Interrupt()
	}
	return nil
}

// Chunks of the arena double in size between these.
const (
	arenaChunk    = 4 << 10
	maxArenaChunk = 1 << 20
)

// alloc returns n bytes that live until the next Reset. A full chunk is replaced, never
// moved, so that earlier results stay valid.
func (env *Env) alloc(n int) []byte {
	l := len(env.arena)
	if cap(env.arena)-l < n {
		env.arena = make([]byte, 0, max(arenaChunk, min(2*cap(env.arena), maxArenaChunk), n))
		l = 0
	}
	env.arena = env.arena[:l+n]
	return env.arena[l : l+n : l+n]
}

// The values that need no arena.
var (
	missing    = bson.Value{}
	null       = bson.Value{Type: bson.TypeNull}
	valueTrue  = bson.Value{Type: bson.TypeBool, Data: []byte{1}}
	valueFalse = bson.Value{Type: bson.TypeBool, Data: []byte{0}}
	emptyArray = bson.Value{Type: bson.TypeArray, Data: []byte{5, 0, 0, 0, 0}}
	emptyStr   = bson.Value{Type: bson.TypeString, Data: []byte{1, 0, 0, 0, 0}}
)

func boolValue(b bool) bson.Value {
	if b {
		return valueTrue
	}
	return valueFalse
}

// Int32 makes an int in the arena.
func (env *Env) Int32(v int32) bson.Value {
	d := env.alloc(4)
	binary.LittleEndian.PutUint32(d, uint32(v))
	return bson.Value{Type: bson.TypeInt32, Data: d}
}

// Int64 makes a long in the arena.
func (env *Env) Int64(v int64) bson.Value { return env.word(bson.TypeInt64, uint64(v)) }

func (env *Env) word(t bson.Type, v uint64) bson.Value {
	d := env.alloc(8)
	binary.LittleEndian.PutUint64(d, v)
	return bson.Value{Type: t, Data: d}
}

// IntOrLong makes an int if v fits, else a long.
func (env *Env) IntOrLong(v int64) bson.Value {
	if v >= math.MinInt32 && v <= math.MaxInt32 {
		return env.Int32(int32(v))
	}
	return env.Int64(v)
}

// Double makes a double in the arena.
func (env *Env) Double(v float64) bson.Value {
	return env.word(bson.TypeDouble, math.Float64bits(v))
}

// Date makes a date in the arena.
func (env *Env) Date(v bson.DateTime) bson.Value { return env.word(bson.TypeDate, uint64(v)) }

// Timestamp makes a timestamp in the arena.
func (env *Env) Timestamp(v bson.Timestamp) bson.Value {
	return env.word(bson.TypeTimestamp, uint64(v))
}

// Decimal makes a decimal in the arena.
func (env *Env) Decimal(v bson.Decimal128) bson.Value {
	d := env.alloc(16)
	binary.LittleEndian.PutUint64(d, v.Lo)
	binary.LittleEndian.PutUint64(d[8:], v.Hi)
	return bson.Value{Type: bson.TypeDecimal128, Data: d}
}

// Str makes a string in the arena.
func (env *Env) Str(s string) bson.Value {
	d := env.alloc(len(s) + 5)
	binary.LittleEndian.PutUint32(d, uint32(len(s)+1))
	copy(d[4:], s)
	d[len(d)-1] = 0
	return bson.Value{Type: bson.TypeString, Data: d}
}

// ObjectID makes an ObjectId in the arena.
func (env *Env) ObjectID(id bson.ObjectID) bson.Value {
	d := env.alloc(12)
	copy(d, id[:])
	return bson.Value{Type: bson.TypeObjectID, Data: d}
}

// Binary makes a binary value in the arena.
func (env *Env) Binary(subtype byte, data []byte) bson.Value {
	d := env.alloc(len(data) + 5)
	binary.LittleEndian.PutUint32(d, uint32(len(data)))
	d[4] = subtype
	copy(d[5:], data)
	return bson.Value{Type: bson.TypeBinary, Data: d}
}

// Array makes an array of vs in the arena; missing elements become null.
func (env *Env) Array(vs []bson.Value) bson.Value {
	n := 5
	for i, v := range vs {
		n += 2 + digits(i) + len(v.Data)
	}
	d := env.alloc(n)
	p := 4
	for i, v := range vs {
		if v.Type == bson.TypeMissing {
			v = null
		}
		d[p] = byte(v.Type)
		p++
		p += putIndex(d[p:], i)
		d[p] = 0
		p++
		p += copy(d[p:], v.Data)
	}
	d[p] = 0
	binary.LittleEndian.PutUint32(d, uint32(n))
	return bson.Value{Type: bson.TypeArray, Data: d}
}

// Field is one element of a document to be made.
type Field struct {
	Key   string
	Value bson.Value
}

// Doc makes a document of fs in the arena; missing fields are left out.
func (env *Env) Doc(fs []Field) bson.Value {
	n := 5
	for _, f := range fs {
		if f.Value.Type != bson.TypeMissing {
			n += 2 + len(f.Key) + len(f.Value.Data)
		}
	}
	d := env.alloc(n)
	p := 4
	for _, f := range fs {
		if f.Value.Type != bson.TypeMissing {
			p += putElem(d[p:], f.Key, f.Value)
		}
	}
	d[p] = 0
	binary.LittleEndian.PutUint32(d, uint32(n))
	return bson.Value{Type: bson.TypeDocument, Data: d}
}

func putElem(d []byte, key string, v bson.Value) int {
	d[0] = byte(v.Type)
	p := 1 + copy(d[1:], key)
	d[p] = 0
	p++
	return p + copy(d[p:], v.Data)
}

func digits(i int) int {
	n := 1
	for i >= 10 {
		i /= 10
		n++
	}
	return n
}

func putIndex(d []byte, i int) int {
	n := digits(i)
	for p := n - 1; p >= 0; p-- {
		d[p] = byte('0' + i%10)
		i /= 10
	}
	return n
}
