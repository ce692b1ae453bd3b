package expr

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func evalType(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	return env.Str(args[0].Type.String()), nil
}

func evalIsNumber(_ *Env, _ *call, args []bson.Value) (bson.Value, error) {
	return boolValue(args[0].IsNumber()), nil
}

func evalBinarySize(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	switch v := args[0]; {
	case v.IsNullish():
		return null, nil
	case v.Type == bson.TypeString:
		return env.Int32(int32(len(v.StrBytes()))), nil
	case v.Type == bson.TypeBinary:
		_, d := v.Binary()
		return env.Int32(int32(len(d))), nil
	default:
		return missing, mongoerr.New(51276, "$binarySize requires a string or BinData argument, found: %s", v.Type)
	}
}

func evalBsonSize(env *Env, _ *call, args []bson.Value) (bson.Value, error) {
	switch v := args[0]; {
	case v.IsNullish():
		return null, nil
	case v.Type == bson.TypeDocument:
		return env.Int32(int32(len(v.Data))), nil
	default:
		return missing, mongoerr.New(31393, "$bsonSize requires a document input, found: %s", v.Type)
	}
}

// parseRand parses {$rand: {}}.
func parseRand(op *Op, operand bson.Value, _ *ParseContext) (Expr, error) {
	if operand.Type == bson.TypeDocument && operand.Doc().IsEmpty() || operand.Type == bson.TypeArray && operand.Doc().IsEmpty() {
		return &call{op: op}, nil
	}
	return nil, mongoerr.New(3040501, "$rand does not currently accept arguments")
}

func evalRand(env *Env, _ *call, _ []bson.Value) (bson.Value, error) {
	if env.Rand == nil {
		return missing, mongoerr.New(mongoerr.InternalError, "$rand has no source of random numbers here")
	}
	return env.Double(env.Rand()), nil
}

func evalTsSecond(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return timestampPart(env, c, args[0], 5687301, func(t bson.Timestamp) uint32 { return t.Seconds() })
}

func evalTsIncrement(env *Env, c *call, args []bson.Value) (bson.Value, error) {
	return timestampPart(env, c, args[0], 5687302, func(t bson.Timestamp) uint32 { return t.Increment() })
}

func timestampPart(env *Env, c *call, v bson.Value, code mongoerr.Code, part func(bson.Timestamp) uint32) (bson.Value, error) {
	if v.IsNullish() {
		return null, nil
	}
	if v.Type != bson.TypeTimestamp {
		return missing, mongoerr.New(code, "Argument to %s must be a timestamp, but is %s", c.op.Name, v.Type)
	}
	return env.Int64(int64(part(v.Timestamp()))), nil
}

// meta is {$meta: name}.
type meta struct{ name string }

var metaNames = []string{
	"indexKey", "textScore", "recordId", "randVal", "searchScore", "searchHighlights", "geoNearDistance",
	"geoNearPoint", "sortKey", "searchScoreDetails", "searchSequenceToken", "timeseriesBucketMinTime",
	"timeseriesBucketMaxTime", "vectorSearchScore", "score", "scoreDetails", "stream",
}

func parseMeta(_ *Op, operand bson.Value, _ *ParseContext) (Expr, error) {
	if operand.Type != bson.TypeString {
		return nil, mongoerr.New(17307, "$meta only supports string arguments")
	}
	if indexOf(operand.Str(), metaNames...) < 0 {
		return nil, mongoerr.New(17308, "Unsupported argument to $meta: %s", operand.Str())
	}
	if what := unavailable[operand.Str()]; what != "" {
		return nil, mongoerr.New(40218, "query requires %s metadata, but it is not available", what)
	}
	if operand.Str() == "sortKey" {
		return nil, mongoerr.New(mongoerr.NotImplemented, "{$meta: \"sortKey\"} is not supported by this version of Cairn")
	}
	return &meta{operand.Str()}, nil
}

// unavailable is the metadata that only text and geospatial searches make, which are not built.
var unavailable = map[string]string{
	"textScore": "text score", "geoNearDistance": "$geoNear distance", "geoNearPoint": "$geoNear point",
}

func (m *meta) Eval(env *Env) (bson.Value, error) {
	if env.Meta == nil {
		return missing, nil
	}
	return env.Meta(m.name), nil
}

func (m *meta) AddDeps(d *Deps)         { d.AddMeta(m.name) }
func (m *meta) Optimize() (Expr, error) { return m, nil }

func (m *meta) Append(b *bson.Builder, key string) {
	b.Doc(key)
	b.Str("$meta", m.name)
	b.End()
}
