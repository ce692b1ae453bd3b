package match

import (
	"sync"

	"github.com/cairndb/cairn/internal/bson"
)

// Status says whether an operator works here.
type Status int8

// The states of an operator.
const (
	Supported Status = iota
	Missing          // known to MongoDB, refused here
)

// Row describes one operator of the filter language.
type Row struct {
	Name   string
	Top    bool // stands at the top level of a filter, not under a field
	Since  string
	Status Status
	Help   string

	// fails gives the error of an operator that is missing because an index of its kind is;
	// nil: the one for what is not built.
	fails      func(arg bson.Value) error
	parseField func(p *parser, name string, path *Path, arg bson.Value, all bson.Raw) (Node, error)
	parseTop   func(p *parser, name string, arg bson.Value) (Node, error)
}

// lazy holds the table: the parsers in its rows refer to it, so it cannot be a plain
// initialised variable.
var lazy struct {
	once sync.Once
	rows []Row
}

// Table returns all operators, sorted by name; names that stand at both levels have
// two rows, the one under a field first.
func Table() []Row {
	lazy.once.Do(func() { lazy.rows = buildTable() })
	return lazy.rows
}

// buildTable is the table; please keep it sorted by name.
func buildTable() []Row {
	cmp := func(op Op) func(*parser, string, *Path, bson.Value, bson.Raw) (Node, error) {
		return func(p *parser, name string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
			return parseComparison(path, op, arg)
		}
	}
	bits := func(op BitOp) func(*parser, string, *Path, bson.Value, bson.Raw) (Node, error) {
		return func(p *parser, name string, path *Path, arg bson.Value, _ bson.Raw) (Node, error) {
			return parseBits(path, op, arg)
		}
	}
	return []Row{
		{Name: "$all", Since: "2.0", Help: "array holds all of the values", parseField: parseAll},
		{Name: "$alwaysFalse", Top: true, Since: "3.6", Help: "matches nothing", parseTop: parseAlways},
		{Name: "$alwaysTrue", Top: true, Since: "3.6", Help: "matches everything", parseTop: parseAlways},
		{Name: "$and", Top: true, Since: "2.0", Help: "all of the filters", parseTop: parseLogic},
		{Name: "$bitsAllClear", Since: "3.2", Help: "all of the bits are 0", parseField: bits(BitsAllClear)},
		{Name: "$bitsAllSet", Since: "3.2", Help: "all of the bits are 1", parseField: bits(BitsAllSet)},
		{Name: "$bitsAnyClear", Since: "3.2", Help: "any of the bits is 0", parseField: bits(BitsAnyClear)},
		{Name: "$bitsAnySet", Since: "3.2", Help: "any of the bits is 1", parseField: bits(BitsAnySet)},
		{Name: "$comment", Since: "3.2", Help: "ignored, shown in logs", parseField: parseFieldComment},
		{Name: "$comment", Top: true, Since: "3.2", Help: "ignored, shown in logs", parseTop: parseTopComment},
		{Name: "$elemMatch", Since: "2.0", Help: "an array element satisfies all conditions", parseField: parseElemMatch},
		{Name: "$eq", Since: "3.0", Help: "equal", parseField: cmp(Eq)},
		{Name: "$exists", Since: "2.0", Help: "field is there, or is not", parseField: parseExists},
		{Name: "$expr", Top: true, Since: "3.6", Help: "an aggregation expression is true", parseTop: parseExpr},
		{Name: "$geoIntersects", Since: "2.4", Status: Missing, Help: "geometry intersects"},
		{Name: "$geoWithin", Since: "2.4", Status: Missing, Help: "geometry lies within"},
		{Name: "$gt", Since: "2.0", Help: "greater", parseField: cmp(Gt)},
		{Name: "$gte", Since: "2.0", Help: "greater or equal", parseField: cmp(Gte)},
		{Name: "$in", Since: "2.0", Help: "equal to one of the values", parseField: parseIn},
		{Name: "$jsonSchema", Top: true, Since: "3.6", Help: "document fits a JSON schema", parseTop: parseJSONSchema},
		{Name: "$lt", Since: "2.0", Help: "less", parseField: cmp(Lt)},
		{Name: "$lte", Since: "2.0", Help: "less or equal", parseField: cmp(Lte)},
		{Name: "$maxDistance", Since: "2.4", Status: Missing, Help: "limit of $near"},
		{Name: "$minDistance", Since: "2.6", Status: Missing, Help: "limit of $near"},
		{Name: "$mod", Since: "2.0", Help: "remainder of a division", parseField: parseMod},
		{Name: "$ne", Since: "2.0", Help: "not equal", parseField: parseNe},
		{Name: "$near", Since: "2.0", Status: Missing, Help: "sorted by distance", fails: nearFails},
		{Name: "$nearSphere", Since: "2.0", Status: Missing, Help: "sorted by distance on a sphere", fails: nearFails},
		{Name: "$nin", Since: "2.0", Help: "equal to none of the values", parseField: parseNin},
		{Name: "$nor", Top: true, Since: "2.0", Help: "none of the filters", parseTop: parseLogic},
		{Name: "$not", Since: "2.0", Help: "does not satisfy the conditions", parseField: parseNot},
		{Name: "$options", Since: "2.0", Help: "flags of $regex", parseField: parseOptions},
		{Name: "$or", Top: true, Since: "2.0", Help: "one of the filters", parseTop: parseLogic},
		{Name: "$regex", Since: "2.0", Help: "string matches a pattern", parseField: parseRegex},
		{Name: "$sampleRate", Top: true, Since: "4.4.2", Help: "matches at random", parseTop: parseSampleRate},
		{Name: "$size", Since: "2.0", Help: "length of an array", parseField: parseSize},
		{Name: "$text", Top: true, Since: "2.6", Status: Missing, Help: "text search", fails: textFails},
		{Name: "$type", Since: "2.0", Help: "type of the value", parseField: parseType},
		{Name: "$where", Top: true, Since: "2.0", Status: Missing, Help: "JavaScript predicate"},
		{Name: "$within", Since: "2.0", Status: Missing, Help: "old name of $geoWithin"},
	}
}

// find returns the row of an operator, or nil.
func find(name string, top bool) *Row {
	table := Table()
	lo, hi := 0, len(table)
	for lo < hi {
		m := (lo + hi) / 2
		if table[m].Name < name {
			lo = m + 1
		} else {
			hi = m
		}
	}
	for ; lo < len(table) && table[lo].Name == name; lo++ {
		if table[lo].Top == top {
			return &table[lo]
		}
	}
	return nil
}
