package mongoerr

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

func TestTableSortedAndUnique(t *testing.T) {
	seen := map[string]Code{}
	for i, r := range codeNames {
		if i > 0 && codeNames[i-1].code >= r.code {
			t.Errorf("%d %s is not behind %d", r.code, r.name, codeNames[i-1].code)
		}
		if c, dup := seen[r.name]; dup {
			t.Errorf("%s names %d and %d", r.name, c, r.code)
		}
		seen[r.name] = r.code
	}
}

// TestConstantsAgreeWithTable reads the constants' source, so that a constant can
// neither carry the wrong number nor be forgotten by this test.
func TestConstantsAgreeWithTable(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	ast.Inspect(f, func(n ast.Node) bool {
		vs, ok := n.(*ast.ValueSpec)
		if !ok || len(vs.Values) != 1 {
			return true
		}
		v, err := strconv.Atoi(vs.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		name := vs.Names[0].Name
		if c, ok := ByName(name); ok && c != Code(v) {
			t.Errorf("constant %s is %d, MongoDB's is %d", name, v, c)
		}
		checked++
		return true
	})
	if checked < 100 {
		t.Fatalf("only %d constants seen", checked)
	}
}

func TestString(t *testing.T) {
	for c, want := range map[Code]string{
		0: "OK", 2: "BadValue", 59: "CommandNotFound", 352: "UnsupportedOpQueryCommand",
		11000: "DuplicateKey", 40415: "Location40415", 56846: "ConfigServerUnreachable", 99: "Location99",
	} {
		if got := c.String(); got != want {
			t.Errorf("%d: %s, want %s", c, got, want)
		}
	}
	if _, ok := ByName("NoSuchName"); ok {
		t.Error("unknown name found")
	}
}
