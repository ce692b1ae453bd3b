package match

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
)

// ExprIn returns a parser of $expr whose predicates are evaluated in env, which makes
// matchers that hold one as single-threaded as env is. pc knows the variables of `let`
// that the caller binds in env.
func ExprIn(pc *expr.ParseContext, env *expr.Env) ExprParser {
	return func(v bson.Value) (ExprFunc, error) {
		e, err := expr.Parse(v, pc)
		if err == nil {
			e, err = e.Optimize()
		}
		if err != nil {
			return nil, err
		}
		return func(doc bson.Raw) (bson.Value, error) {
			env.Reset(doc)
			return e.Eval(env)
		}, nil
	}
}
