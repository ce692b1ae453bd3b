package command

import (
	"fmt"
	"math"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Types is a set of BSON types that an argument may have.
type Types uint32

// Sets of types, named as MongoDB's command definitions do.
const (
	TObject Types = 1 << iota
	TArray
	TString
	TBool
	TInt
	TLong
	TDouble
	TDecimal
	TNull
	TBinData
	TTimestamp
	TObjectID
	TDate
	TAny

	TNumber   = TInt | TLong | TDouble | TDecimal
	TBoolLike = TBool | TNumber
)

var typeBits = []struct {
	bit Types
	t   bson.Type
}{
	{TObject, bson.TypeDocument}, {TArray, bson.TypeArray}, {TString, bson.TypeString}, {TBool, bson.TypeBool},
	{TLong, bson.TypeInt64}, {TInt, bson.TypeInt32}, {TDecimal, bson.TypeDecimal128}, {TDouble, bson.TypeDouble},
	{TNull, bson.TypeNull}, {TBinData, bson.TypeBinary}, {TTimestamp, bson.TypeTimestamp},
	{TObjectID, bson.TypeObjectID}, {TDate, bson.TypeDate},
}

// Allows reports whether t is in the set.
func (s Types) Allows(t bson.Type) bool { return s&(TAny|bitOfType[t]) != 0 }

// bitOfType is typeBits by type.
var bitOfType = func() (bits [256]Types) {
	for _, b := range typeBits {
		bits[b.t] = b.bit
	}
	return bits
}()

// names lists the set as MongoDB's messages do.
func (s Types) names() (list []string) {
	for _, b := range typeBits {
		if s&b.bit != 0 {
			list = append(list, b.t.String())
		}
	}
	return list
}

func wrongType(field string, got bson.Type, want Types) error {
	names := want.names()
	if len(names) == 1 {
		return mongoerr.New(mongoerr.TypeMismatch, "BSON field '%s' is the wrong type '%s', expected type '%s'", field, got, names[0])
	}
	return mongoerr.New(mongoerr.TypeMismatch, "BSON field '%s' is the wrong type '%s', expected types '[%s]'", field, got, strings.Join(names, ", "))
}

func missingField(field string) error {
	return mongoerr.New(40414, "BSON field '%s' is missing but a required field", field)
}

func duplicateField(field string) error {
	return mongoerr.New(40413, "BSON field '%s' is a duplicate field", field)
}

func unknownField(field string) error {
	return mongoerr.New(mongoerr.UnknownField, "BSON field '%s' is an unknown field.", field)
}

// checkArgs compares the body of a request with the command's row. null stands for
// an absent argument wherever null is not a type of its own, as in MongoDB.
func (c *Ctx) checkArgs() error {
	var seen seenArgs
	list := c.args.all()
	for i := 0; i < len(list) && !c.help; i++ {
		if err := c.checkArg(&seen, list[i].name, list[i].v); err != nil {
			return err
		}
	}
	if list == nil {
		it := c.Body.Iter()
		it.Next() // the command's own name
		for it.Next() && !c.help {
			if err := c.checkArg(&seen, it.Key(), it.Value()); err != nil {
				return err
			}
		}
	}
	if c.help {
		return nil
	}
	for i := range c.Command.Args {
		if a := &c.Command.Args[i]; a.Required && c.Arg(a.Name).IsNullish() && c.sequence(a.Name) == nil {
			return missingField(c.Command.field(a.Name))
		}
	}
	return nil
}

// seenArgs are those that came already, by place in the tables, which have fewer than 64 rows.
type seenArgs struct{ generic, own uint64 }

// checkArg compares one argument with the tables, and keeps a generic one. It sets c.help if the
// rest is not to be looked at.
func (c *Ctx) checkArg(seen *seenArgs, name string, v bson.Value) error {
	cmd := c.Command
	if i := genericArg(name); i >= 0 {
		if seen.generic&(1<<i) != 0 {
			return duplicateField(cmd.field(name))
		}
		seen.generic |= 1 << i
		return generics[i].check(c, v)
	}
	i := cmd.arg(name)
	if i < 0 && cmd.Has(AnyArgs) {
		return nil
	}
	if i < 0 && name == "help" && v.Truthy() {
		c.help = true
		return nil
	}
	if i < 0 {
		return unknownField(cmd.field(name))
	}
	if seen.own&(1<<i) != 0 {
		return duplicateField(cmd.field(name))
	}
	seen.own |= 1 << i
	if v.Type == bson.TypeNull || v.Type == bson.TypeUndefined {
		return nil
	}
	if a := &cmd.Args[i]; !a.Types.Allows(v.Type) {
		return wrongType(cmd.field(name), v.Type, a.Types)
	}
	return nil
}

// first is the first element of the request: the command's name and its own value.
func (c *Ctx) first() (string, bson.Value) {
	if c.args.n == 0 {
		return c.Body.First()
	}
	return c.args.first.name, c.args.first.v
}

// Arg returns a named argument of the request, missing if it is absent. The command's own
// name is one of them.
func (c *Ctx) Arg(name string) bson.Value {
	if v, ok := c.args.get(name); ok && (!v.IsMissing() || name != c.Command.Name) {
		return v
	}
	return c.Body.Get(name)
}

// value is the element of that name of body, from x if it was made of it. The first
// element, which x has not, counts if it is no command's name: it begins with a dollar.
func (x *argIndex) value(body bson.Raw, name string) bson.Value {
	v, ok := x.get(name)
	if !ok || v.IsMissing() && name[0] == '$' {
		return body.Get(name)
	}
	return v
}

// argIndex has the elements of a request's body behind the first, where they are few: a
// command asks for each of its arguments, most of which are not there.
type argIndex struct {
	n     int // 0: not made; otherwise one more than there are, or more than there is room for
	first arg // the first element itself
	list  [10]arg
}

type arg struct {
	name string
	v    bson.Value
}

func (x *argIndex) fill(body bson.Raw) {
	x.n, x.first = 1, arg{}
	it := body.Iter()
	if it.Next() { // the command's own name
		x.first = arg{it.Key(), it.Value()}
	}
	for it.Next() {
		x.add(it.Key(), it.Value())
	}
}

func (x *argIndex) add(name string, v bson.Value) {
	if x.n <= len(x.list) {
		x.list[x.n-1] = arg{name, v}
	}
	x.n++
}

// get is not ok if the body must be asked.
func (x *argIndex) get(name string) (v bson.Value, ok bool) {
	if x.n == 0 || x.n > len(x.list)+1 {
		return v, false
	}
	for i := range x.n - 1 {
		if x.list[i].name == name {
			return x.list[i].v, true
		}
	}
	return v, true
}

// all are the elements that x was made of, nil if the body must be asked.
func (x *argIndex) all() []arg {
	if x.n == 0 || x.n > len(x.list)+1 {
		return nil
	}
	return x.list[:x.n-1]
}

// each calls f with the elements of body behind the first, from x if they are there.
func (x *argIndex) each(body bson.Raw, f func(name string, v bson.Value)) {
	if list := x.all(); list != nil {
		for i := range list {
			f(list[i].name, list[i].v)
		}
		return
	}
	it := body.Iter()
	it.Next()
	for it.Next() {
		f(it.Key(), it.Value())
	}
}

// ArgDoc returns a document argument or nil.
func (c *Ctx) ArgDoc(name string) bson.Raw {
	if v := c.Arg(name); v.Type == bson.TypeDocument {
		return v.Doc()
	}
	return nil
}

// ArgStr returns a string argument or "".
func (c *Ctx) ArgStr(name string) string { return c.Arg(name).Str() }

// ArgBool returns a bool-like argument, or def if absent.
func (c *Ctx) ArgBool(name string, def bool) bool {
	v := c.Arg(name)
	if v.IsNullish() {
		return def
	}
	return v.Truthy()
}

// ArgInt returns an integral argument, or def if absent. Doubles are cut towards
// zero and clamped as MongoDB's safeNumberLong does.
func (c *Ctx) ArgInt(name string, def int64) int64 { return intArg(c.Arg(name), def) }

func intArg(v bson.Value, def int64) int64 {
	if v.IsNullish() {
		return def
	}
	if i, ok := v.AsInt64(); ok {
		return i
	}
	f, _ := v.AsFloat64()
	switch {
	case math.IsNaN(f):
		return 0
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

// Collection returns the collection name that stands as the command's own value.
func (c *Ctx) Collection() (string, error) {
	_, v := c.first()
	if v.Type != bson.TypeString {
		return "", mongoerr.New(mongoerr.InvalidNamespace, "collection name has invalid type %s", v.Type)
	}
	coll := v.Str()
	if coll == "" {
		return "", mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s.'", c.DB)
	}
	if strings.IndexByte(coll, 0) >= 0 {
		return "", mongoerr.New(mongoerr.InvalidNamespace, "namespaces cannot have embedded null characters")
	}
	if len(c.DB)+1+len(coll) > 255 {
		return "", mongoerr.New(mongoerr.InvalidNamespace, "Fully qualified namespace is too long. Namespace: %s.%s Max: 255", c.DB, coll)
	}
	return coll, nil
}

// Namespace is Collection joined with the database.
func (c *Ctx) Namespace() (string, error) {
	coll, err := c.Collection()
	if err != nil {
		return "", err
	}
	return c.DB + "." + coll, nil
}

// Sequence is a kind-1 section of a message: an argument that is an array of documents.
type Sequence struct {
	Name string
	Docs []bson.Raw
}

func (c *Ctx) sequence(name string) *Sequence {
	for i := range c.Sequences {
		if c.Sequences[i].Name == name {
			return &c.Sequences[i]
		}
	}
	return nil
}

// ArgDocs returns the documents of an argument that may stand in the body as an
// array or behind it as a sequence.
func (c *Ctx) ArgDocs(name string) ([]bson.Raw, error) {
	if s := c.sequence(name); s != nil {
		return s.Docs, nil
	}
	v := c.Arg(name)
	if v.Type != bson.TypeArray {
		return nil, wrongType(c.Command.Name+"."+name, v.Type, TArray)
	}
	docs := make([]bson.Raw, 0, 8)
	for k, e := range v.Doc().Elems() {
		if e.Type != bson.TypeDocument {
			return nil, wrongType(fmt.Sprintf("%s.%s.%s", c.Command.Name, name, k), e.Type, TObject)
		}
		docs = append(docs, e.Doc())
	}
	return docs, nil
}
