package expr

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// TestScripts evaluates each line of testdata/scripts as an expression on the document
// that `doc` set, twice: as parsed and optimised. "eval" shows the results, "explain" the
// optimised expressions, "deps" what they read.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		doc := bson.Empty
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "doc" {
				doc = extjson.MustParse(d.Input)
				return ""
			}
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				v, err := extjson.UnmarshalValue([]byte(strings.TrimSpace(line)))
				if err != nil {
					t.Fatalf("%s: %s: %v", d.Pos, line, err)
				}
				out.WriteString(scriptLine(t, d, v, doc) + "\n")
			}
			return out.String()
		})
	})
}

func scriptLine(t *testing.T, d *datadriven.TestData, v bson.Value, doc bson.Raw) string {
	e, err := Parse(v, nil)
	if err != nil {
		return "parse " + outcome(missing, err)
	}
	switch d.Cmd {
	case "explain":
		o, err := e.Optimize()
		if err != nil {
			return outcome(missing, err)
		}
		b := bson.NewBuilder(nil)
		o.Append(b, "e")
		return ValueText(b.Finish().Get("e"))
	case "deps":
		deps := DepsOf(e)
		s := strings.Join(deps.SortedPaths(), ", ")
		if deps.Whole {
			s += " whole"
		}
		return strings.TrimSpace(s)
	}
	env := &Env{Now: 1582979696789, ClusterTime: bson.NewTimestamp(5, 1)}
	env.Reset(doc)
	got := outcome(e.Eval(env))
	if len(env.stack) != 0 {
		t.Errorf("%s: %s leaves %d values on the stack", d.Pos, ToJSON(v), len(env.stack))
	}
	o, err := e.Optimize()
	opt := ""
	if err != nil {
		opt = outcome(missing, err)
	} else {
		env.Reset(doc)
		opt = outcome(o.Eval(env))
	}
	if opt != got {
		t.Errorf("%s: %s gives %s, optimised %s", d.Pos, ToJSON(v), got, opt)
	}
	return got
}

func FuzzExpr(f *testing.F) {
	for _, s := range []string{`{"$add":[1,"$a"]}`, `{"$map":{"input":"$a","in":{"$concat":["$$this","x"]}}}`,
		`{"$dateToString":{"date":"$d","format":"%Y-%m"}}`, `{"$switch":{"branches":[{"case":true,"then":1}]}}`, `{"$convert":{"input":"1","to":"int"}}`} {
		f.Add([]byte(extjson.MustParse(`{"e":` + s + `}`)))
	}
	doc := bson.D("a", bson.A(1, "x", bson.D("b", 2)), "d", bson.DateTime(1582979696789), "s", "text")
	f.Fuzz(func(t *testing.T, b []byte) {
		if bson.Validate(b, bson.MaxDepth) != nil {
			return
		}
		_, v := bson.Raw(b).First()
		e, err := Parse(v, nil)
		if err != nil {
			return
		}
		env := &Env{}
		env.Reset(doc)
		r, err := e.Eval(env)
		if err == nil && !r.IsMissing() && bson.Validate(bson.D("v", r), 300) != nil {
			t.Fatalf("%s: malformed result", ToJSON(v))
		}
		if len(env.stack) != 0 && err == nil {
			t.Fatalf("%s: stack not empty", ToJSON(v))
		}
	})
}
