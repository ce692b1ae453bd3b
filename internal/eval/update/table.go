package update

import "github.com/cairndb/cairn/internal/bson"

// Status says whether an operator works here.
type Status int8

// The states of an operator.
const (
	Supported Status = iota
	Missing          // known to MongoDB, refused here
)

// Row describes one update operator.
type Row struct {
	Name   string
	Since  string
	Status Status
	Help   string

	parse func(p *parser, path string, arg bson.Value) (modifier, error)
}

// Table returns all update operators, sorted by name.
func Table() []Row { return table }

var table = []Row{ // please keep sorted
	{Name: "$addToSet", Since: "2.0", Help: "add to an array what it does not hold", parse: parseAddToSet},
	{Name: "$bit", Since: "2.0", Help: "and, or, xor on an integer", parse: parseBit},
	{Name: "$currentDate", Since: "2.6", Help: "set to the current date or timestamp", parse: parseCurrentDate},
	{Name: "$inc", Since: "2.0", Help: "add to a number", parse: parseInc},
	{Name: "$max", Since: "2.6", Help: "set if greater", parse: parseMax},
	{Name: "$min", Since: "2.6", Help: "set if less", parse: parseMin},
	{Name: "$mul", Since: "2.6", Help: "multiply a number", parse: parseMul},
	{Name: "$pop", Since: "2.0", Help: "remove the first or last array element", parse: parsePop},
	{Name: "$pull", Since: "2.0", Help: "remove array elements that match", parse: parsePull},
	{Name: "$pullAll", Since: "2.0", Help: "remove array elements equal to one of the values", parse: parsePullAll},
	{Name: "$push", Since: "2.0", Help: "add to an array; $each, $position, $slice, $sort", parse: parsePush},
	{Name: "$rename", Since: "2.0", Help: "rename a field"}, // parsed with both of its paths
	{Name: "$set", Since: "2.0", Help: "set a field", parse: parseSet},
	{Name: "$setOnInsert", Since: "2.4", Help: "set a field when an upsert inserts", parse: parseSetOnInsert},
	{Name: "$unset", Since: "2.0", Help: "remove a field", parse: parseUnset},
}

func find(name string) *Row {
	for i := range table {
		if table[i].Name == name {
			return &table[i]
		}
	}
	return nil
}
