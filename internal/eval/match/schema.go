package match

import (
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// JSONSchema matches documents that fit a JSON schema, MongoDB's variant of draft 4.
type JSONSchema struct {
	Source bson.Raw
	root   *schema
}

func (n *JSONSchema) matchDoc(doc bson.Raw, _ *Details) (bool, error) {
	return n.root.fits(doc.Value())
}

func (n *JSONSchema) matchElem(v bson.Value) (bool, error) { return n.root.fits(v) }

func (*JSONSchema) kind() kind { return kindJSONSchema }

// schema is one object of a schema: rules that all have to hold. Most rules are about
// values of one type and hold for all others.
type schema struct {
	title, description string
	rules              []schemaRule
}

// schemaRule is what one keyword, or a few that belong together, ask of a value.
type schemaRule interface {
	holds(v bson.Value) (bool, error)
	// explain adds to an open document why v, for which the rule does not hold, fails.
	explain(x *schemaExplainer, v bson.Value)
}

func (s *schema) fits(v bson.Value) (bool, error) {
	for _, r := range s.rules {
		if ok, err := r.holds(v); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func parseJSONSchema(p *parser, name string, arg bson.Value) (Node, error) {
	if arg.Type != bson.TypeDocument {
		return nil, typeMismatch("$jsonSchema must be an object")
	}
	s, err := p.schema(arg.Doc())
	if err != nil {
		return nil, err
	}
	return &JSONSchema{arg.Doc(), s}, nil
}

// schemaTable are the keywords, in the order in which their failures are told.
var schemaTable = []Row{
	{Name: "title", Help: "shown with failures"},
	{Name: "description", Help: "shown with failures"},
	{Name: "bsonType", Help: "type or types by MongoDB's names"},
	{Name: "type", Help: "type or types by JSON's names, without integer"},
	{Name: "enum", Help: "one of the values"},
	{Name: "maximum", Help: "largest number"},
	{Name: "exclusiveMaximum", Help: "maximum itself is too large"},
	{Name: "minimum", Help: "smallest number"},
	{Name: "exclusiveMinimum", Help: "minimum itself is too small"},
	{Name: "multipleOf", Help: "whole multiples of a number"},
	{Name: "maxLength", Help: "most characters of a string"},
	{Name: "minLength", Help: "fewest characters of a string"},
	{Name: "pattern", Help: "strings that a regular expression finds"},
	{Name: "items", Help: "schema of all elements, or of each by its position"},
	{Name: "additionalItems", Help: "elements behind those of items"},
	{Name: "maxItems", Help: "most elements"},
	{Name: "minItems", Help: "fewest elements"},
	{Name: "uniqueItems", Help: "no element twice"},
	{Name: "properties", Help: "schemas of fields by name"},
	{Name: "patternProperties", Help: "schemas of fields whose names fit a pattern"},
	{Name: "additionalProperties", Help: "fields that neither names"},
	{Name: "required", Help: "fields that have to be there"},
	{Name: "dependencies", Help: "what a document with a field needs besides"},
	{Name: "maxProperties", Help: "most fields"},
	{Name: "minProperties", Help: "fewest fields"},
	{Name: "allOf", Help: "fits all schemas"},
	{Name: "anyOf", Help: "fits at least one schema"},
	{Name: "oneOf", Help: "fits exactly one schema"},
	{Name: "not", Help: "does not fit a schema"},
	{Name: "encrypt", Status: Missing, Help: "field is encrypted by clients"},
	{Name: "encryptMetadata", Status: Missing, Help: "defaults for encrypt"},
}

// unsupportedKeywords are those of JSON schema that MongoDB refuses by name.
var unsupportedKeywords = []string{"$ref", "$schema", "default", "definitions", "format", "id"}

// SchemaTable returns the keywords of $jsonSchema.
func SchemaTable() []Row { return schemaTable }

// schema parses one object of a schema.
func (p *parser) schema(d bson.Raw) (*schema, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxParseDepth {
		return nil, badValue("exceeded maximum query tree depth of %d at %s", maxParseDepth, d)
	}
	seen := map[string]bool{}
	for k := range d.Elems() {
		i := slices.IndexFunc(schemaTable, func(r Row) bool { return r.Name == k })
		switch {
		case seen[k]:
			return nil, failedToParse("Duplicate $jsonSchema keyword: %s", k)
		case i >= 0 && schemaTable[i].Status == Missing:
			return nil, notBuilt("$jsonSchema keyword '" + k + "'")
		case i >= 0:
			seen[schemaTable[i].Name] = true
		case slices.Contains(unsupportedKeywords, k):
			return nil, failedToParse("$jsonSchema keyword '%s' is not currently supported", k)
		default:
			return nil, failedToParse("Unknown $jsonSchema keyword: %s", k)
		}
	}
	if seen["type"] && seen["bsonType"] {
		return nil, failedToParse("Cannot specify both $jsonSchema keywords 'type' and 'bsonType'")
	}
	s := &schema{}
	for _, row := range schemaTable {
		k := row.Name
		v := d.Get(k)
		if v.IsMissing() {
			continue
		}
		r, err := p.keyword(s, d, k, v)
		if err != nil {
			return nil, err
		}
		if r != nil {
			s.rules = append(s.rules, r)
		}
	}
	return s, nil
}

// keyword parses one keyword of d. A nil rule is one that asks for nothing by itself.
func (p *parser) keyword(s *schema, d bson.Raw, k string, v bson.Value) (schemaRule, error) {
	switch k {
	case "title", "description":
		if v.Type != bson.TypeString {
			return nil, typeMismatch("$jsonSchema keyword '%s' must be of type string", k)
		}
		if k == "title" {
			s.title = v.Str()
		} else {
			s.description = v.Str()
		}
		return nil, nil
	case "bsonType", "type":
		return parseSchemaType(k, v)
	case "enum":
		return parseSchemaEnum(v)
	case "maximum", "minimum":
		return parseSchemaBound(d, k, v)
	case "exclusiveMaximum", "exclusiveMinimum":
		of := "m" + strings.TrimPrefix(k, "exclusiveM")
		if v.Type != bson.TypeBool {
			return nil, typeMismatch("$jsonSchema keyword '%s' must be a boolean", k)
		}
		if !d.Has(of) {
			return nil, failedToParse("$jsonSchema keyword '%s' must be a present if %s is present", of, k)
		}
		return nil, nil
	case "multipleOf":
		return parseMultipleOf(v)
	case "maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties":
		n, err := nonNegativeArg(v, k+": "+v.String())
		if err != nil {
			return nil, err
		}
		return &countRule{k, n, v}, nil
	case "pattern":
		if v.Type != bson.TypeString {
			return nil, typeMismatch("$jsonSchema keyword 'pattern' must be a string")
		}
		r, err := newRegex(selfPath, bson.Regex{Pattern: v.Str()})
		if err != nil {
			return nil, err
		}
		return &patternRule{r, v}, nil
	case "uniqueItems":
		if v.Type != bson.TypeBool {
			return nil, typeMismatch("$jsonSchema keyword 'uniqueItems' must be a boolean")
		}
		if !v.Bool() {
			return nil, nil
		}
		return uniqueRule{}, nil
	case "items":
		return p.parseItems(d, v)
	case "additionalItems":
		_, _, err := p.boolOrSchema(k, v) // items takes it up; without an array of items it asks nothing
		return nil, err
	case "properties":
		list, err := p.namedSchemas(k, v)
		return &propertiesRule{list}, err
	case "patternProperties":
		list, err := p.patterns(v)
		if err != nil || len(list) == 0 {
			return nil, err
		}
		return &patternPropertiesRule{list}, nil
	case "additionalProperties":
		return p.parseAdditional(d, v)
	case "required":
		names, err := stringSet(k, v)
		return &requiredRule{names, v}, err
	case "dependencies":
		return p.parseDependencies(v)
	case "not":
		if v.Type != bson.TypeDocument {
			return nil, typeMismatch("$jsonSchema keyword 'not' must be an object, but found an element of type %s", v.Type)
		}
		kid, err := p.schema(v.Doc())
		return &notRule{kid}, err
	}
	return p.parseBranches(k, v) // allOf, anyOf, oneOf
}

// jsonTypes are the types of JSON schema; "integer" is no type of MongoDB's.
var jsonTypes = map[string]TypeSet{
	"object": {Types: []bson.Type{bson.TypeDocument}}, "array": {Types: []bson.Type{bson.TypeArray}}, "number": {AllNumbers: true},
	"boolean": {Types: []bson.Type{bson.TypeBool}}, "string": {Types: []bson.Type{bson.TypeString}}, "null": {Types: []bson.Type{bson.TypeNull}},
}

func parseSchemaType(k string, v bson.Value) (schemaRule, error) {
	list := []bson.Value{v}
	if v.Type == bson.TypeArray {
		list = slices.Collect(v.Doc().Values())
		if len(list) == 0 {
			return nil, failedToParse("$jsonSchema keyword '%s' must name at least one type", k)
		}
	}
	r := &typeRule{keyword: k, spec: v}
	seen := map[string]bool{}
	for _, e := range list {
		if e.Type != bson.TypeString {
			return nil, typeMismatch("$jsonSchema keyword '%s' must be either a string or an array of strings", k)
		}
		name := e.Str()
		if seen[name] {
			return nil, failedToParse("$jsonSchema keyword '%s' has duplicate value: %s", k, name)
		}
		seen[name] = true
		if k == "bsonType" {
			if err := r.types.add(e); err != nil {
				return nil, err
			}
			continue
		}
		if name == "integer" {
			return nil, failedToParse("$jsonSchema type 'integer' is not currently supported.")
		}
		t, ok := jsonTypes[name]
		if !ok {
			return nil, badValue("Unknown type name alias: %s", name)
		}
		r.types.AllNumbers = r.types.AllNumbers || t.AllNumbers
		r.types.Types = append(r.types.Types, t.Types...)
	}
	return r, nil
}

func parseSchemaEnum(v bson.Value) (schemaRule, error) {
	if v.Type != bson.TypeArray {
		return nil, typeMismatch("$jsonSchema keyword 'enum' must be an array, but found an element of type %s", v.Type)
	}
	r := &enumRule{spec: v, values: slices.Collect(v.Doc().Values())}
	if len(r.values) == 0 {
		return nil, failedToParse("$jsonSchema keyword 'enum' cannot be an empty array")
	}
	if _, _, dup := duplicate(r.values); dup {
		return nil, failedToParse("$jsonSchema keyword 'enum' array cannot contain duplicate values.")
	}
	return r, nil
}

func parseSchemaBound(d bson.Raw, k string, v bson.Value) (schemaRule, error) {
	if !v.IsNumber() {
		return nil, typeMismatch("$jsonSchema keyword '%s' must be a number", k)
	}
	exclusive := "exclusiveM" + k[1:]
	open := d.Get(exclusive).Bool()
	op := Lte
	switch {
	case k == "maximum" && open:
		op = Lt
	case k == "minimum" && open:
		op = Gt
	case k == "minimum":
		op = Gte
	}
	spec := bson.NewBuilder(nil).Append(k, v)
	if open {
		spec.Bool(exclusive, true)
	}
	return &boundRule{k, Comparison{Path: selfPath, Op: op, Value: v}, spec.Finish()}, nil
}

func parseMultipleOf(v bson.Value) (schemaRule, error) {
	if !v.IsNumber() {
		return nil, typeMismatch("$jsonSchema keyword 'multipleOf' must be a number")
	}
	if f, _ := v.AsFloat64(); !(f > 0) {
		return nil, failedToParse("$jsonSchema keyword 'multipleOf' must have a positive value")
	}
	return &multipleRule{v}, nil
}

func schemaArg(where string, v bson.Value) error {
	if v.Type != bson.TypeDocument {
		return typeMismatch("%s must be an object", where)
	}
	return nil
}

type namedSchema struct {
	name   string
	schema *schema
}

func (p *parser) namedSchemas(k string, v bson.Value) (list []namedSchema, err error) {
	if v.Type != bson.TypeDocument {
		return nil, typeMismatch("$jsonSchema keyword '%s' must be an object", k)
	}
	for name, e := range v.Doc().Elems() {
		if err := schemaArg("Nested schema for $jsonSchema property '"+name+"'", e); err != nil {
			return nil, err
		}
		s, err := p.schema(e.Doc())
		if err != nil {
			return nil, err
		}
		list = append(list, namedSchema{strings.Clone(name), s})
	}
	return list, nil
}

// patternSchema is the schema of properties whose names fit a pattern.
type patternSchema struct {
	regex  *Regex
	schema *schema
}

func (p *parser) patterns(v bson.Value) (list []patternSchema, err error) {
	named, err := p.namedSchemas("patternProperties", v)
	if err != nil {
		return nil, err
	}
	for _, n := range named {
		r, err := newRegex(selfPath, bson.Regex{Pattern: n.name})
		if err != nil {
			return nil, badValue("Invalid regular expression in $jsonSchema keyword 'patternProperties': %s", message(err))
		}
		list = append(list, patternSchema{r, n.schema})
	}
	return list, nil
}

// boolOrSchema reads a keyword that is a boolean or a schema; true is a nil schema.
func (p *parser) boolOrSchema(k string, v bson.Value) (s *schema, allowed bool, err error) {
	switch v.Type {
	case bson.TypeBool:
		return nil, v.Bool(), nil
	case bson.TypeDocument:
		s, err = p.schema(v.Doc())
		return s, true, err
	}
	return nil, false, typeMismatch("$jsonSchema keyword '%s' must be either an object or a boolean, but got a %s", k, v.Type)
}

func (p *parser) parseAdditional(d bson.Raw, v bson.Value) (schemaRule, error) {
	s, allowed, err := p.boolOrSchema("additionalProperties", v)
	if err != nil || s == nil && allowed {
		return nil, err
	}
	r := &additionalRule{schema: s, named: map[string]bool{}}
	for name := range d.Get("properties").Doc().Elems() {
		r.named[strings.Clone(name)] = true
	}
	if pp := d.Get("patternProperties"); !pp.IsMissing() {
		if r.patterns, err = p.patterns(pp); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (p *parser) parseItems(d bson.Raw, v bson.Value) (schemaRule, error) {
	if v.Type == bson.TypeDocument {
		s, err := p.schema(v.Doc())
		return &itemsRule{every: s}, err
	}
	if v.Type != bson.TypeArray {
		return nil, typeMismatch("$jsonSchema keyword 'items' must be an array or an object, not %s", v.Type)
	}
	r := &itemsRule{others: true}
	for e := range v.Doc().Values() {
		if e.Type != bson.TypeDocument {
			return nil, typeMismatch("$jsonSchema keyword 'items' requires that each element of the array is an object, but found a %s", e.Type)
		}
		s, err := p.schema(e.Doc())
		if err != nil {
			return nil, err
		}
		r.each = append(r.each, s)
	}
	if a := d.Get("additionalItems"); !a.IsMissing() {
		var err error
		if r.rest, r.others, err = p.boolOrSchema("additionalItems", a); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// stringSet reads an array of different strings that is not empty.
func stringSet(k string, v bson.Value) (names []string, err error) {
	if v.Type != bson.TypeArray {
		return nil, typeMismatch("$jsonSchema keyword '%s' must be an array, but found an element of type %s", k, v.Type)
	}
	for e := range v.Doc().Values() {
		if e.Type != bson.TypeString {
			return nil, typeMismatch("$jsonSchema keyword '%s' must be an array of strings, but found an element of type: %s", k, e.Type)
		}
		if slices.Contains(names, e.Str()) {
			return nil, failedToParse("$jsonSchema keyword '%s' array cannot contain duplicate values", k)
		}
		names = append(names, strings.Clone(e.Str()))
	}
	if len(names) == 0 {
		return nil, failedToParse("$jsonSchema keyword '%s' cannot be an empty array", k)
	}
	return names, nil
}

func (p *parser) parseDependencies(v bson.Value) (schemaRule, error) {
	if v.Type != bson.TypeDocument {
		return nil, typeMismatch("$jsonSchema keyword 'dependencies' must be an object")
	}
	r := &dependenciesRule{}
	for name, e := range v.Doc().Elems() {
		d := dependency{name: strings.Clone(name)}
		var err error
		switch e.Type {
		case bson.TypeDocument:
			d.schema, err = p.schema(e.Doc())
		case bson.TypeArray:
			d.names, err = stringSet("dependencies", e)
		default:
			err = typeMismatch("$jsonSchema keyword 'dependencies' requires that each dependency is either an object or an array, but found %s for '%s'", e.Type, name)
		}
		if err != nil {
			return nil, err
		}
		r.list = append(r.list, d)
	}
	return r, nil
}

func (p *parser) parseBranches(k string, v bson.Value) (schemaRule, error) {
	if v.Type != bson.TypeArray {
		return nil, typeMismatch("$jsonSchema keyword '%s' must be an array, but found an element of type %s", k, v.Type)
	}
	r := &branchRule{keyword: k}
	for e := range v.Doc().Values() {
		if e.Type != bson.TypeDocument {
			return nil, typeMismatch("$jsonSchema keyword '%s' must be an array of objects, but found an element of type %s", k, e.Type)
		}
		s, err := p.schema(e.Doc())
		if err != nil {
			return nil, err
		}
		r.list = append(r.list, s)
	}
	if len(r.list) == 0 {
		return nil, badValue("$jsonSchema keyword '%s' must be a non-empty array", k)
	}
	return r, nil
}
