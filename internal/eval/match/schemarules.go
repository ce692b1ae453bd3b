package match

import (
	"math/big"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/cairndb/cairn/internal/bson"
)

// typeRule is bsonType and type.
type typeRule struct {
	keyword string
	types   TypeSet
	spec    bson.Value
}

func (r *typeRule) holds(v bson.Value) (bool, error) { return r.types.Has(v.Type), nil }

// enumRule takes values that are equal to one of a list; documents are equal whatever
// the order of their fields.
type enumRule struct {
	values []bson.Value
	spec   bson.Value
}

func (r *enumRule) holds(v bson.Value) (bool, error) {
	return slices.ContainsFunc(r.values, func(e bson.Value) bool { return sameValue(e, v) }), nil
}

// boundRule is maximum and minimum, which hold for what is no number.
type boundRule struct {
	keyword string
	cmp     Comparison
	spec    bson.Raw
}

func (r *boundRule) holds(v bson.Value) (bool, error) {
	if !v.IsNumber() {
		return true, nil
	}
	return r.cmp.matchElem(v)
}

type multipleRule struct{ of bson.Value }

func (r *multipleRule) holds(v bson.Value) (bool, error) {
	return !v.IsNumber() || isMultiple(v, r.of), nil
}

// isMultiple reports whether v is a whole multiple of the positive number of, both taken
// as decimals: 0.3 is one of 0.1.
func isMultiple(v, of bson.Value) bool {
	if a, ok := exactInt(v); ok {
		if b, ok := exactInt(of); ok {
			return a%b == 0
		}
	}
	a, ok := decimalOf(v)
	b, ok2 := decimalOf(of)
	if !ok || !ok2 {
		return false
	}
	ca, ea := a.Coefficient()
	cb, eb := b.Coefficient()
	ca.Abs(ca)
	cb.Abs(cb)
	ten := big.NewInt(10)
	switch {
	case cb.Sign() == 0:
		return false
	case ca.Sign() == 0:
		return true
	case ea >= eb:
		p := new(big.Int).Exp(ten, big.NewInt(int64(ea-eb)), cb)
		return p.Mul(p, ca).Mod(p, cb).Sign() == 0
	case eb-ea > 40: // of is larger than v, which has 34 digits
		return false
	}
	p := new(big.Int).Exp(ten, big.NewInt(int64(eb-ea)), nil)
	return p.Mod(ca, p.Mul(p, cb)).Sign() == 0
}

func exactInt(v bson.Value) (int64, bool) {
	if v.Type != bson.TypeInt32 && v.Type != bson.TypeInt64 {
		return 0, false
	}
	return v.AsInt64()
}

// decimalOf is a finite number as decimal; doubles have 15 digits.
func decimalOf(v bson.Value) (bson.Decimal128, bool) {
	switch v.Type {
	case bson.TypeDecimal128:
		d := v.Decimal128()
		return d, !d.IsNaN() && !d.IsInf()
	case bson.TypeDouble:
		d, err := bson.ParseDecimal128(strconv.FormatFloat(v.Double(), 'g', 15, 64))
		return d, err == nil && !d.IsNaN() && !d.IsInf()
	}
	n, ok := v.AsInt64()
	return bson.DecimalFromInt64(n), ok
}

// countRule bounds the length of strings, arrays and documents.
type countRule struct {
	keyword string
	n       int64
	spec    bson.Value
}

func (r *countRule) holds(v bson.Value) (bool, error) {
	n, ok := r.count(v)
	switch {
	case !ok:
		return true, nil
	case r.keyword[:3] == "max":
		return n <= r.n, nil
	}
	return n >= r.n, nil
}

// count is the number that the keyword is about, false for values of other types.
func (r *countRule) count(v bson.Value) (int64, bool) {
	switch r.keyword[3:] {
	case "Length":
		return int64(utf8.RuneCount(v.StrBytes())), v.Type == bson.TypeString
	case "Items":
		return int64(v.Doc().Len()), v.Type == bson.TypeArray
	}
	return int64(v.Doc().Len()), v.Type == bson.TypeDocument
}

type patternRule struct {
	regex *Regex
	spec  bson.Value
}

func (r *patternRule) holds(v bson.Value) (bool, error) {
	if v.Type != bson.TypeString {
		return true, nil
	}
	return r.regex.matchString(v.Str())
}

type uniqueRule struct{}

func (uniqueRule) holds(v bson.Value) (bool, error) {
	if v.Type != bson.TypeArray {
		return true, nil
	}
	_, _, dup := duplicate(slices.Collect(v.Doc().Values()))
	return !dup, nil
}

// duplicate finds a value that stands twice in a list. Values are sorted by an order that
// does not tell documents apart by the order of their fields.
func duplicate(list []bson.Value) (first, second int, found bool) {
	order := make([]int, len(list))
	keys := make([]bson.Value, len(list))
	for i, v := range list {
		order[i], keys[i] = i, canonical(v)
	}
	slices.SortStableFunc(order, func(a, b int) int { return bson.Compare(keys[a], keys[b]) })
	for i := 1; i < len(order); i++ {
		if bson.Compare(keys[order[i-1]], keys[order[i]]) == 0 {
			return order[i-1], order[i], true
		}
	}
	return 0, 0, false
}

// sameValue is equality without the order of fields.
func sameValue(a, b bson.Value) bool {
	if a.Type.CanonicalOrder() != b.Type.CanonicalOrder() {
		return false
	}
	return bson.Compare(a, b) == 0 || bson.Compare(canonical(a), canonical(b)) == 0
}

// canonical returns v with the fields of all documents in it sorted by name.
func canonical(v bson.Value) bson.Value {
	if v.Type != bson.TypeDocument && v.Type != bson.TypeArray {
		return v
	}
	type field struct {
		key string
		v   bson.Value
	}
	var fields []field
	for k, e := range v.Doc().Elems() {
		fields = append(fields, field{k, canonical(e)})
	}
	b := bson.NewBuilder(nil)
	if v.Type == bson.TypeDocument {
		slices.SortStableFunc(fields, func(a, b field) int {
			switch {
			case a.key < b.key:
				return -1
			case a.key > b.key:
				return 1
			}
			return 0
		})
	}
	for _, f := range fields {
		b.Append(f.key, f.v)
	}
	return bson.Value{Type: v.Type, Data: b.Finish()}
}

// itemsRule is items, with additionalItems behind an array of schemas.
type itemsRule struct {
	every  *schema   // of each element, nil if there is an array of schemas
	each   []*schema // of the element of each position
	rest   *schema   // of elements behind these, nil: none
	others bool      // there may be such elements at all
}

// of is the schema of an element, nil if it may be anything; allowed is false if the
// array must not be that long.
func (r *itemsRule) of(i int) (s *schema, allowed bool) {
	switch {
	case r.every != nil:
		return r.every, true
	case i < len(r.each):
		return r.each[i], true
	}
	return r.rest, r.others
}

// firstBad returns the first element that does not fit.
func (r *itemsRule) firstBad(v bson.Value) (i int, bad bson.Value, found bool, err error) {
	if v.Type != bson.TypeArray {
		return 0, bad, false, nil
	}
	for e := range v.Doc().Values() {
		s, allowed := r.of(i)
		if !allowed {
			return i, e, true, nil
		}
		if s != nil {
			if ok, err := s.fits(e); !ok || err != nil {
				return i, e, true, err
			}
		}
		i++
	}
	return 0, bad, false, nil
}

func (r *itemsRule) holds(v bson.Value) (bool, error) {
	_, _, found, err := r.firstBad(v)
	return !found && err == nil, err
}

type propertiesRule struct{ list []namedSchema }

func (r *propertiesRule) holds(v bson.Value) (bool, error) {
	if v.Type != bson.TypeDocument {
		return true, nil
	}
	for i := range r.list {
		if ok, err := r.list[i].fits(v.Doc()); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// fits checks the property of a document, if it has it.
func (n *namedSchema) fits(d bson.Raw) (bool, error) {
	v := d.Get(n.name)
	if v.IsMissing() {
		return true, nil
	}
	return n.schema.fits(v)
}

type patternPropertiesRule struct{ list []patternSchema }

func (r *patternPropertiesRule) holds(v bson.Value) (bool, error) {
	ok := true
	var err error
	r.eachBad(v, func(string, *patternSchema, bson.Value) bool { ok = false; return false }, &err)
	return ok && err == nil, err
}

// eachBad calls f with the properties that fit a pattern and not its schema, until it
// returns false.
func (r *patternPropertiesRule) eachBad(v bson.Value, f func(name string, p *patternSchema, v bson.Value) bool, err *error) {
	if v.Type != bson.TypeDocument {
		return
	}
	for name, e := range v.Doc().Elems() {
		for i := range r.list {
			p := &r.list[i]
			hit, rerr := p.regex.matchString(name)
			if rerr != nil {
				*err = rerr
				return
			}
			if !hit {
				continue
			}
			ok, ferr := p.schema.fits(e)
			if ferr != nil {
				*err = ferr
				return
			}
			if !ok && !f(name, p, e) {
				return
			}
		}
	}
}

// additionalRule is additionalProperties: what is neither in properties nor fits a
// pattern of patternProperties.
type additionalRule struct {
	schema   *schema // nil: none may be
	named    map[string]bool
	patterns []patternSchema
}

func (r *additionalRule) holds(v bson.Value) (bool, error) {
	ok := true
	var err error
	r.eachBad(v, func(string, bson.Value) bool { ok = false; return false }, &err)
	return ok && err == nil, err
}

func (r *additionalRule) eachBad(v bson.Value, f func(name string, v bson.Value) bool, err *error) {
	if v.Type != bson.TypeDocument {
		return
	}
next:
	for name, e := range v.Doc().Elems() {
		if r.named[name] {
			continue
		}
		for i := range r.patterns {
			hit, rerr := r.patterns[i].regex.matchString(name)
			if rerr != nil {
				*err = rerr
				return
			}
			if hit {
				continue next
			}
		}
		if r.schema != nil {
			ok, ferr := r.schema.fits(e)
			if ferr != nil {
				*err = ferr
				return
			}
			if ok {
				continue
			}
		}
		if !f(name, e) {
			return
		}
	}
}

type requiredRule struct {
	names []string
	spec  bson.Value
}

func (r *requiredRule) holds(v bson.Value) (bool, error) {
	return v.Type != bson.TypeDocument || missingNames(v.Doc(), r.names) == nil, nil
}

func missingNames(d bson.Raw, names []string) (missing []string) {
	for _, n := range names {
		if !d.Has(n) {
			missing = append(missing, n)
		}
	}
	return missing
}

// dependency is what a document that has a property needs besides.
type dependency struct {
	name   string
	names  []string // these properties
	schema *schema  // or to fit a schema
}

func (d *dependency) holds(doc bson.Raw) (bool, error) {
	switch {
	case !doc.Has(d.name):
		return true, nil
	case d.schema != nil:
		return d.schema.fits(doc.Value())
	}
	return missingNames(doc, d.names) == nil, nil
}

type dependenciesRule struct{ list []dependency }

func (r *dependenciesRule) holds(v bson.Value) (bool, error) {
	if v.Type != bson.TypeDocument {
		return true, nil
	}
	for i := range r.list {
		if ok, err := r.list[i].holds(v.Doc()); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// branchRule is allOf, anyOf and oneOf.
type branchRule struct {
	keyword string
	list    []*schema
}

func (r *branchRule) holds(v bson.Value) (bool, error) {
	n := 0
	for _, s := range r.list {
		ok, err := s.fits(v)
		switch {
		case err != nil:
			return false, err
		case !ok && r.keyword == "allOf":
			return false, nil
		case ok && r.keyword == "anyOf":
			return true, nil
		case ok:
			n++
		}
	}
	switch r.keyword {
	case "allOf":
		return true, nil
	case "anyOf":
		return false, nil
	}
	return n == 1, nil
}

type notRule struct{ kid *schema }

func (r *notRule) holds(v bson.Value) (bool, error) {
	ok, err := r.kid.fits(v)
	return !ok && err == nil, err
}
