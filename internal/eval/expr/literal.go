package expr

import "github.com/cairndb/cairn/internal/bson"

// parseLiteral parses $literal and $const: the operand is taken as it is.
func parseLiteral(_ *Op, operand bson.Value, _ *ParseContext) (Expr, error) {
	return constant{operand}, nil
}
