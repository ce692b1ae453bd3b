package match

import "github.com/cairndb/cairn/internal/bson"

// maxExplained is the size from which on the values of a document that does not fit are
// left out of the explanation: each may stand there several times.
const maxExplained = 4 << 20

// Explain adds to an open document why doc does not fit the schema, in the form of a
// failed validation's errInfo.details.
func (n *JSONSchema) Explain(b *bson.Builder, doc bson.Raw) {
	x := &schemaExplainer{b}
	b.Str("operatorName", "$jsonSchema")
	x.annotate(n.root)
	x.details("schemaRulesNotSatisfied", n.root, doc.Value())
}

// schemaExplainer writes an explanation.
type schemaExplainer struct{ b *bson.Builder }

// annotate adds what the schema's author says about it.
func (x *schemaExplainer) annotate(s *schema) {
	if s.title != "" {
		x.b.Str("title", s.title)
	}
	if s.description != "" {
		x.b.Str("description", s.description)
	}
}

// details lists the rules of s that do not hold for v.
func (x *schemaExplainer) details(key string, s *schema, v bson.Value) {
	x.b.Array(key)
	for _, r := range s.rules {
		if ok, err := r.holds(v); ok || err != nil {
			continue
		}
		x.b.Doc("")
		r.explain(x, v)
		x.b.End()
	}
	x.b.End()
}

func (x *schemaExplainer) operator(name string) *bson.Builder { return x.b.Str("operatorName", name) }

func (x *schemaExplainer) specified(name string, v any) *bson.Builder {
	return x.operator(name).AppendDoc("specifiedAs", bson.D(name, v))
}

// considered adds the value that was looked at.
func (x *schemaExplainer) considered(v bson.Value) {
	if x.b.Len()+len(v.Data) < maxExplained {
		x.b.Append("consideredValue", v)
	}
}

func (r *typeRule) explain(x *schemaExplainer, v bson.Value) {
	x.specified(r.keyword, r.spec).Str("reason", "type did not match")
	x.considered(v)
	x.b.Str("consideredType", v.Type.String())
}

func (r *enumRule) explain(x *schemaExplainer, v bson.Value) {
	x.specified("enum", r.spec).Str("reason", "value was not found in enum")
	x.considered(v)
}

func (r *boundRule) explain(x *schemaExplainer, v bson.Value) {
	x.operator(r.keyword).AppendDoc("specifiedAs", r.spec).Str("reason", "comparison failed")
	x.considered(v)
}

func (r *multipleRule) explain(x *schemaExplainer, v bson.Value) {
	x.specified("multipleOf", r.of).Str("reason", "considered value is not a multiple of the specified value")
	x.considered(v)
}

func (r *countRule) explain(x *schemaExplainer, v bson.Value) {
	x.specified(r.keyword, r.spec)
	switch r.keyword[3:] {
	case "Length":
		x.b.Str("reason", "specified string length was not satisfied")
		x.considered(v)
	case "Items":
		x.b.Str("reason", "array did not match specified length")
		x.considered(v)
	default:
		n, _ := r.count(v)
		x.b.Str("reason", "specified number of properties was not satisfied").IntOrLong("numberOfProperties", n)
	}
}

func (r *patternRule) explain(x *schemaExplainer, v bson.Value) {
	x.specified("pattern", r.spec).Str("reason", "regular expression did not match")
	x.considered(v)
}

func (uniqueRule) explain(x *schemaExplainer, v bson.Value) {
	x.specified("uniqueItems", true).Str("reason", "found a duplicate item")
	x.considered(v)
	list := make([]bson.Value, 0, v.Doc().Len())
	for e := range v.Doc().Values() {
		list = append(list, e)
	}
	if _, second, ok := duplicate(list); ok {
		x.b.Append("duplicatedValue", list[second])
	}
}

func (r *itemsRule) explain(x *schemaExplainer, v bson.Value) {
	i, bad, found, _ := r.firstBad(v)
	if !found {
		return
	}
	s, allowed := r.of(i)
	switch {
	case !allowed:
		x.specified("additionalItems", false).Str("reason", "found additional items")
		x.b.Array("additionalItems")
		n := 0
		for e := range v.Doc().Values() {
			if n >= i && x.b.Len()+len(e.Data) < maxExplained {
				x.b.Append("", e)
			}
			n++
		}
		x.b.End()
		return
	case r.every == nil && i >= len(r.each):
		x.operator("additionalItems").Str("reason", "At least one additional item did not match the sub-schema")
	default:
		x.operator("items").Str("reason", "At least one item did not match the sub-schema")
	}
	x.b.IntOrLong("itemIndex", int64(i))
	x.details("details", s, bad)
}

func (r *propertiesRule) explain(x *schemaExplainer, v bson.Value) {
	x.operator("properties").Array("propertiesNotSatisfied")
	for i := range r.list {
		n := &r.list[i]
		if ok, err := n.fits(v.Doc()); ok || err != nil {
			continue
		}
		x.b.Doc("").Str("propertyName", n.name)
		x.annotate(n.schema)
		x.details("details", n.schema, v.Doc().Get(n.name))
		x.b.End()
	}
	x.b.End()
}

func (r *patternPropertiesRule) explain(x *schemaExplainer, v bson.Value) {
	x.operator("patternProperties").Array("details")
	var err error
	r.eachBad(v, func(name string, p *patternSchema, e bson.Value) bool {
		x.b.Doc("").Str("propertyName", name)
		x.annotate(p.schema)
		x.b.Str("regexMatched", p.regex.Pattern)
		x.details("details", p.schema, e)
		x.b.End()
		return true
	}, &err)
	x.b.End()
}

func (r *additionalRule) explain(x *schemaExplainer, v bson.Value) {
	var err error
	if r.schema == nil {
		x.specified("additionalProperties", false).Array("additionalProperties")
		r.eachBad(v, func(name string, _ bson.Value) bool { x.b.Str("", name); return true }, &err)
		x.b.End()
		return
	}
	x.operator("additionalProperties").Str("reason", "at least one additional property did not match the subschema")
	r.eachBad(v, func(name string, e bson.Value) bool {
		x.b.Str("failingProperty", name)
		x.details("details", r.schema, e)
		return false
	}, &err)
}

func (r *requiredRule) explain(x *schemaExplainer, v bson.Value) {
	x.specified("required", r.spec).Any("missingProperties", missingNames(v.Doc(), r.names))
}

func (r *dependenciesRule) explain(x *schemaExplainer, v bson.Value) {
	x.operator("dependencies").Array("failingDependencies")
	for i := range r.list {
		d := &r.list[i]
		if ok, err := d.holds(v.Doc()); ok || err != nil {
			continue
		}
		x.b.Doc("").Str("conditionalProperty", d.name)
		if d.schema != nil {
			x.details("details", d.schema, v)
		} else {
			x.b.Any("missingProperties", missingNames(v.Doc(), d.names))
		}
		x.b.End()
	}
	x.b.End()
}

func (r *branchRule) explain(x *schemaExplainer, v bson.Value) {
	x.operator(r.keyword)
	var fit []bson.Value
	for i, s := range r.list {
		if ok, err := s.fits(v); ok && err == nil {
			fit = append(fit, bson.V(i))
		}
	}
	if r.keyword == "oneOf" && len(fit) > 1 {
		x.b.Str("reason", "more than one subschema matched").Any("matchingSchemaIndexes", fit)
		return
	}
	x.b.Array("schemasNotSatisfied")
	for i, s := range r.list {
		if ok, err := s.fits(v); ok || err != nil {
			continue
		}
		x.b.Doc("").Int32("index", int32(i))
		x.annotate(s)
		x.details("details", s, v)
		x.b.End()
	}
	x.b.End()
}

func (r *notRule) explain(x *schemaExplainer, v bson.Value) {
	x.operator("not").Str("reason", "child expression matched")
}
