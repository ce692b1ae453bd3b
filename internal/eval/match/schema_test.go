package match

import (
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func TestSchemaMatches(t *testing.T) {
	for _, c := range []struct {
		schema    string
		fit, fail []string
	}{
		{`{}`, []string{`{}`, `{"a": 1}`}, nil},
		{`{"bsonType": "object"}`, []string{`{}`}, nil},
		{`{"type": "array"}`, nil, []string{`{}`}},
		{`{"properties": {"a": {"bsonType": "int"}}}`, []string{`{}`, `{"a": 1}`}, []string{`{"a": "x"}`, `{"a": 1.5}`, `{"a": [1]}`}},
		{`{"properties": {"a": {"bsonType": ["string", "number"]}}}`, []string{`{"a": 1.5}`, `{"a": ""}`}, []string{`{"a": null}`}},
		{`{"properties": {"a": {"type": ["number", "null"]}}}`, []string{`{"a": 1}`, `{"a": null}`, `{"a": {"$numberDecimal": "1"}}`}, []string{`{"a": true}`}},
		{`{"properties": {"a": {"type": "boolean"}, "b": {"type": "object"}}}`, []string{`{"a": true, "b": {}}`}, []string{`{"a": 1}`, `{"b": []}`}},
		{`{"properties": {"a": {"enum": [1, "x", null, {"p": 1, "q": [{"r": 1, "s": 2}]}]}}}`,
			[]string{`{"a": 1.0}`, `{"a": null}`, `{"a": {"q": [{"s": 2, "r": 1}], "p": 1}}`}, []string{`{"a": 2}`, `{"a": [1]}`, `{"a": {"p": 1}}`}},
		{`{"properties": {"a": {"maximum": 5, "minimum": 1}}}`, []string{`{"a": 5}`, `{"a": 1.0}`, `{"a": "x"}`, `{"a": [9]}`}, []string{`{"a": 5.01}`, `{"a": 0}`, `{"a": {"$numberDouble": "NaN"}}`}},
		{`{"properties": {"a": {"maximum": 5, "exclusiveMaximum": true, "minimum": 1, "exclusiveMinimum": true}}}`, []string{`{"a": 4}`}, []string{`{"a": 5}`, `{"a": 1}`}},
		{`{"properties": {"a": {"multipleOf": 3}}}`, []string{`{"a": 9}`, `{"a": 0}`, `{"a": -3}`, `{"a": "x"}`, `{"a": 9.0}`}, []string{`{"a": 10}`, `{"a": {"$numberDouble": "Infinity"}}`}},
		{`{"properties": {"a": {"multipleOf": 0.1}}}`, []string{`{"a": 0.3}`, `{"a": 1}`, `{"a": {"$numberDecimal": "1E+6000"}}`}, []string{`{"a": 0.35}`, `{"a": {"$numberDecimal": "1E-6000"}}`}},
		{`{"properties": {"a": {"multipleOf": {"$numberDecimal": "1E+6000"}}}}`, []string{`{"a": {"$numberDecimal": "3E+6000"}}`}, []string{`{"a": 1}`}},
		{`{"properties": {"a": {"maxLength": 3, "minLength": 2}}}`, []string{`{"a": "äöü"}`, `{"a": 1}`}, []string{`{"a": "abcd"}`, `{"a": "a"}`}},
		{`{"properties": {"a": {"pattern": "^x+$"}}}`, []string{`{"a": "xx"}`, `{"a": 1}`}, []string{`{"a": "xy"}`}},
		{`{"required": ["a", "b"]}`, []string{`{"a": null, "b": 1}`}, []string{`{"a": 1}`, `{}`}},
		{`{"properties": {"o": {"required": ["x"]}}}`, []string{`{}`, `{"o": 1}`, `{"o": [{}]}`, `{"o": {"x": 1}}`}, []string{`{"o": {}}`}},
		{`{"minProperties": 1, "maxProperties": 2}`, []string{`{"a": 1}`}, []string{`{}`, `{"a": 1, "b": 1, "c": 1}`}},
		{`{"properties": {"a": {}}, "patternProperties": {"^n": {"bsonType": "int"}}, "additionalProperties": false}`,
			[]string{`{"a": 1, "n1": 2}`}, []string{`{"a": 1, "x": 1}`, `{"n1": "s"}`}},
		{`{"additionalProperties": {"bsonType": "string"}}`, []string{`{"a": "x"}`}, []string{`{"a": 1}`}},
		{`{"properties": {"a": {}}, "additionalProperties": true}`, []string{`{"b": 1}`}, nil},
		{`{"properties": {"a": {"items": {"bsonType": "int"}}}}`, []string{`{"a": []}`, `{"a": [1, 2]}`, `{"a": 1}`}, []string{`{"a": [1, "x"]}`}},
		{`{"properties": {"a": {"items": [{"bsonType": "int"}, {"bsonType": "string"}]}}}`, []string{`{"a": [1]}`, `{"a": [1, "x", null]}`}, []string{`{"a": ["x"]}`, `{"a": [1, 1]}`}},
		{`{"properties": {"a": {"items": [{}], "additionalItems": false}}}`, []string{`{"a": [1]}`}, []string{`{"a": [1, 2]}`}},
		{`{"properties": {"a": {"items": [{}], "additionalItems": {"bsonType": "int"}}}}`, []string{`{"a": ["x", 2]}`}, []string{`{"a": ["x", "y"]}`}},
		{`{"properties": {"a": {"additionalItems": false}}}`, []string{`{"a": [1]}`}, nil},
		{`{"properties": {"a": {"minItems": 1, "maxItems": 2}}}`, []string{`{"a": [1]}`, `{"a": "x"}`}, []string{`{"a": []}`, `{"a": [1, 2, 3]}`}},
		{`{"properties": {"a": {"uniqueItems": true}}}`, []string{`{"a": [1, 2, "1"]}`, `{"a": [{"x": 1}, {"x": 2}]}`}, []string{`{"a": [1, 1.0]}`, `{"a": [{"x": 1, "y": 2}, 3, {"y": 2, "x": 1}]}`}},
		{`{"properties": {"a": {"uniqueItems": false}}}`, []string{`{"a": [1, 1]}`}, nil},
		{`{"dependencies": {"a": ["b", "c"], "d": {"required": ["e"]}}}`, []string{`{}`, `{"a": 1, "b": 1, "c": 1}`, `{"d": 1, "e": 1}`}, []string{`{"a": 1, "b": 1}`, `{"d": 1}`}},
		{`{"allOf": [{"required": ["a"]}, {"required": ["b"]}]}`, []string{`{"a": 1, "b": 1}`}, []string{`{"a": 1}`}},
		{`{"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}`, []string{`{"a": 1}`, `{"a": 1, "b": 1}`}, []string{`{}`}},
		{`{"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}`, []string{`{"a": 1}`}, []string{`{}`, `{"a": 1, "b": 1}`}},
		{`{"not": {"required": ["a"]}}`, []string{`{}`}, []string{`{"a": 1}`}},
		{`{"title": "T", "description": "D", "required": ["a"]}`, []string{`{"a": 1}`}, []string{`{}`}},
	} {
		filter := bson.D("$jsonSchema", extjson.MustParse(c.schema))
		m, err := Compile(filter, Options{})
		if err != nil {
			t.Errorf("%s: %v", c.schema, err)
			continue
		}
		if got := Serialize(m.Root()); bson.CompareDocs(got, filter) != 0 {
			t.Errorf("%s is serialized as %s", c.schema, got)
		}
		for want, docs := range map[bool][]string{true: c.fit, false: c.fail} {
			for _, d := range docs {
				doc := extjson.MustParse(d)
				if ok, err := m.Match(doc); ok != want || err != nil {
					t.Errorf("%s on %s: %v, %v", c.schema, d, ok, err)
				}
				if !want {
					explain(t, m.Root().(*JSONSchema), doc)
				}
			}
		}
	}
}

// explain checks what holds for every explanation: it is valid and names a rule.
func explain(t *testing.T, n *JSONSchema, doc bson.Raw) bson.Raw {
	t.Helper()
	b := bson.NewBuilder(nil)
	n.Explain(b, doc)
	out := b.Finish()
	if err := bson.Validate(out, 200); err != nil || out.Get("schemaRulesNotSatisfied").Doc().IsEmpty() {
		t.Errorf("%s on %s is explained as %s, %v", n.Source, doc, out, err)
	}
	return out
}

func TestSchemaErrors(t *testing.T) {
	for _, c := range []struct {
		schema string
		code   mongoerr.Code
		msg    string
	}{
		{`1`, 14, "$jsonSchema must be an object"},
		{`{"nosuch": 1}`, 9, "Unknown $jsonSchema keyword: nosuch"},
		{`{"$ref": "#"}`, 9, "$jsonSchema keyword '$ref' is not currently supported"},
		{`{"$schema": "x"}`, 9, "$jsonSchema keyword '$schema' is not currently supported"},
		{`{"default": 1}`, 9, "$jsonSchema keyword 'default' is not currently supported"},
		{`{"definitions": {}}`, 9, "$jsonSchema keyword 'definitions' is not currently supported"},
		{`{"format": "date"}`, 9, "$jsonSchema keyword 'format' is not currently supported"},
		{`{"properties": {"a": {"id": "x"}}}`, 9, "$jsonSchema keyword 'id' is not currently supported"},
		{`{"properties": {"a": {"encrypt": {}}}}`, 115, ""},
		{`{"type": "integer"}`, 9, "$jsonSchema type 'integer' is not currently supported."},
		{`{"type": "objectId"}`, 2, "Unknown type name alias: objectId"},
		{`{"bsonType": "nosuch"}`, 2, "Unknown type name alias: nosuch"},
		{`{"bsonType": 1}`, 14, "$jsonSchema keyword 'bsonType' must be either a string or an array of strings"},
		{`{"bsonType": []}`, 9, ""},
		{`{"bsonType": ["int", "int"]}`, 9, ""},
		{`{"bsonType": "int", "type": "number"}`, 9, "Cannot specify both $jsonSchema keywords 'type' and 'bsonType'"},
		{`{"enum": 1}`, 14, ""}, {`{"enum": []}`, 9, ""}, {`{"enum": [1, 1.0]}`, 9, ""}, {`{"enum": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]}`, 9, ""},
		{`{"maximum": "x"}`, 14, "$jsonSchema keyword 'maximum' must be a number"},
		{`{"exclusiveMaximum": true}`, 9, "$jsonSchema keyword 'maximum' must be a present if exclusiveMaximum is present"},
		{`{"maximum": 1, "exclusiveMaximum": 1}`, 14, "$jsonSchema keyword 'exclusiveMaximum' must be a boolean"},
		{`{"exclusiveMinimum": true}`, 9, "$jsonSchema keyword 'minimum' must be a present if exclusiveMinimum is present"},
		{`{"multipleOf": 0}`, 9, "$jsonSchema keyword 'multipleOf' must have a positive value"},
		{`{"multipleOf": "x"}`, 14, ""},
		{`{"maxLength": "x"}`, 9, "Expected a number in: maxLength: \"x\""},
		{`{"minItems": -1}`, 9, "Expected a positive number in: minItems: -1"},
		{`{"pattern": 1}`, 14, ""}, {`{"pattern": "("}`, 51091, ""},
		{`{"items": 1}`, 14, ""}, {`{"items": [1]}`, 14, ""}, {`{"additionalItems": 1}`, 14, ""}, {`{"items": {"nosuch": 1}}`, 9, ""},
		{`{"uniqueItems": 1}`, 14, ""}, {`{"properties": 1}`, 14, ""},
		{`{"properties": {"a": 1}}`, 14, "Nested schema for $jsonSchema property 'a' must be an object"},
		{`{"patternProperties": {"(": {}}}`, 2, ""}, {`{"additionalProperties": 1}`, 14, ""},
		{`{"required": "a"}`, 14, ""}, {`{"required": []}`, 9, "$jsonSchema keyword 'required' cannot be an empty array"},
		{`{"required": ["a", "a"]}`, 9, ""}, {`{"required": [1]}`, 14, ""},
		{`{"dependencies": 1}`, 14, ""}, {`{"dependencies": {"a": []}}`, 9, ""}, {`{"dependencies": {"a": 1}}`, 14, ""},
		{`{"allOf": 1}`, 14, ""}, {`{"anyOf": []}`, 2, ""}, {`{"oneOf": [1]}`, 14, ""}, {`{"not": 1}`, 14, ""},
		{`{"title": 1}`, 14, "$jsonSchema keyword 'title' must be of type string"},
	} {
		v := extjson.MustParse(`{"v": ` + c.schema + `}`).Get("v")
		_, err := Compile(bson.D("$jsonSchema", v), Options{})
		e, ok := mongoerr.As(err)
		if !ok || e.Code != c.code || c.msg != "" && e.Message != c.msg {
			t.Errorf("%s: %v", c.schema, err)
		}
	}
	if _, err := Compile(bson.NewBuilder(nil).AppendDoc("$jsonSchema", bson.NewBuilder(nil).Str("title", "a").Str("title", "b").Finish()).Finish(), Options{}); mongoerr.CodeOf(err) != 9 {
		t.Errorf("a keyword twice: %v", err)
	}
	deep := bson.Empty
	for range 300 {
		deep = bson.D("not", deep)
	}
	if _, err := Compile(bson.D("$jsonSchema", deep), Options{}); mongoerr.CodeOf(err) != 2 {
		t.Errorf("a deep schema: %v", err)
	}
}

func TestSchemaExplain(t *testing.T) {
	for _, c := range []struct{ schema, doc, want string }{
		{`{"title": "T", "description": "D", "required": ["a", "b"]}`, `{"a": 1}`,
			`{"operatorName": "$jsonSchema", "title": "T", "description": "D", "schemaRulesNotSatisfied": [{"operatorName": "required", "specifiedAs": {"required": ["a", "b"]}, "missingProperties": ["b"]}]}`},
		{`{"required": ["b"], "properties": {"a": {"bsonType": "int", "minimum": 5, "description": "D"}, "s": {"maxLength": 1}}}`, `{"a": "x", "s": "xy"}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [
				{"operatorName": "properties", "propertiesNotSatisfied": [
					{"propertyName": "a", "description": "D", "details": [{"operatorName": "bsonType", "specifiedAs": {"bsonType": "int"}, "reason": "type did not match", "consideredValue": "x", "consideredType": "string"}]},
					{"propertyName": "s", "details": [{"operatorName": "maxLength", "specifiedAs": {"maxLength": 1}, "reason": "specified string length was not satisfied", "consideredValue": "xy"}]}]},
				{"operatorName": "required", "specifiedAs": {"required": ["b"]}, "missingProperties": ["b"]}]}`},
		{`{"properties": {"a": {"minimum": 5, "exclusiveMinimum": true, "enum": [1]}}}`, `{"a": 5}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [{"operatorName": "properties", "propertiesNotSatisfied": [{"propertyName": "a", "details": [
				{"operatorName": "enum", "specifiedAs": {"enum": [1]}, "reason": "value was not found in enum", "consideredValue": 5},
				{"operatorName": "minimum", "specifiedAs": {"minimum": 5, "exclusiveMinimum": true}, "reason": "comparison failed", "consideredValue": 5}]}]}]}`},
		{`{"oneOf": [{"required": ["a"]}, {"properties": {"b": {"bsonType": "int"}}}]}`, `{"a": 1}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [{"operatorName": "oneOf", "reason": "more than one subschema matched", "matchingSchemaIndexes": [0, 1]}]}`},
		{`{"anyOf": [{"required": ["a"]}]}`, `{}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [{"operatorName": "anyOf", "schemasNotSatisfied": [{"index": 0, "details": [{"operatorName": "required", "specifiedAs": {"required": ["a"]}, "missingProperties": ["a"]}]}]}]}`},
		{`{"not": {"required": ["a"]}}`, `{"a": 1}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [{"operatorName": "not", "reason": "child expression matched"}]}`},
		{`{"properties": {"a": {}}, "additionalProperties": false, "minProperties": 4}`, `{"a": 1, "x": 1, "y": 2}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [
				{"operatorName": "additionalProperties", "specifiedAs": {"additionalProperties": false}, "additionalProperties": ["x", "y"]},
				{"operatorName": "minProperties", "specifiedAs": {"minProperties": 4}, "reason": "specified number of properties was not satisfied", "numberOfProperties": 3}]}`},
		{`{"properties": {"a": {"items": {"bsonType": "int"}, "uniqueItems": true, "maxItems": 2}}}`, `{"a": [1, "x", "x"]}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [{"operatorName": "properties", "propertiesNotSatisfied": [{"propertyName": "a", "details": [
				{"operatorName": "items", "reason": "At least one item did not match the sub-schema", "itemIndex": 1, "details": [{"operatorName": "bsonType", "specifiedAs": {"bsonType": "int"}, "reason": "type did not match", "consideredValue": "x", "consideredType": "string"}]},
				{"operatorName": "maxItems", "specifiedAs": {"maxItems": 2}, "reason": "array did not match specified length", "consideredValue": [1, "x", "x"]},
				{"operatorName": "uniqueItems", "specifiedAs": {"uniqueItems": true}, "reason": "found a duplicate item", "consideredValue": [1, "x", "x"], "duplicatedValue": "x"}]}]}]}`},
		{`{"properties": {"a": {"items": [{}], "additionalItems": false}}}`, `{"a": [1, 2, 3]}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [{"operatorName": "properties", "propertiesNotSatisfied": [{"propertyName": "a", "details": [{"operatorName": "additionalItems", "specifiedAs": {"additionalItems": false}, "reason": "found additional items", "additionalItems": [2, 3]}]}]}]}`},
		{`{"patternProperties": {"^n": {"bsonType": "int"}}}`, `{"n1": "x"}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [{"operatorName": "patternProperties", "details": [{"propertyName": "n1", "regexMatched": "^n", "details": [{"operatorName": "bsonType", "specifiedAs": {"bsonType": "int"}, "reason": "type did not match", "consideredValue": "x", "consideredType": "string"}]}]}]}`},
		{`{"dependencies": {"a": ["b"]}}`, `{"a": 1}`,
			`{"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [{"operatorName": "dependencies", "failingDependencies": [{"conditionalProperty": "a", "missingProperties": ["b"]}]}]}`},
	} {
		m, err := Compile(bson.D("$jsonSchema", extjson.MustParse(c.schema)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := explain(t, m.Root().(*JSONSchema), extjson.MustParse(c.doc)); bson.CompareDocs(got, extjson.MustParse(c.want)) != 0 {
			t.Errorf("%s on %s:\n got %s\nwant %s", c.schema, c.doc, got, extjson.MustParse(c.want))
		}
	}
}

// FuzzJSONSchema parses any schema; one that parses is matched and explained without a panic.
func FuzzJSONSchema(f *testing.F) {
	for _, s := range []string{
		`{"bsonType": "object", "required": ["name"], "properties": {"name": {"bsonType": "string"}, "age": {"bsonType": "int", "minimum": 0}}}`,
		`{"patternProperties": {"^a": {"multipleOf": 0.1}}, "additionalProperties": {"items": [{"enum": [1, {"a": 2}]}], "additionalItems": false}}`,
		`{"oneOf": [{"dependencies": {"a": ["b"]}}, {"not": {"uniqueItems": true}}], "maxProperties": 3}`,
	} {
		f.Add([]byte(extjson.MustParse(s)), []byte(extjson.MustParse(`{"name": 1, "a": [1, {"a": 2}, 1.5], "b": {"$numberDecimal": "1E+6000"}}`)))
	}
	f.Fuzz(func(t *testing.T, schema, doc []byte) {
		if bson.Validate(schema, 200) != nil || bson.Validate(doc, 200) != nil {
			return
		}
		m, err := Compile(bson.D("$jsonSchema", bson.Raw(schema)), Options{})
		if err != nil {
			if _, ok := mongoerr.As(err); !ok {
				t.Error(err)
			}
			return
		}
		if ok, err := m.Match(doc); !ok && err == nil {
			if n, is := m.Root().(*JSONSchema); is {
				explain(t, n, doc)
			}
		}
	})
}
