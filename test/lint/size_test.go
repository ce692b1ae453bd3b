package lint

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Budgets of the house: a file aims at 400 lines and never exceeds maxFile; a function longer
// than maxFunc says in a comment why it is long. Tests and generated files have no limit.
const (
	maxFile = 1000
	maxFunc = 100
)

func TestFilesStayInBudget(t *testing.T) {
	for _, f := range sources(t) {
		if !f.test && !f.gen && f.lines > maxFile {
			t.Errorf("%s has %d lines (limit %d): split it by concept, one thing a file", f.rel, f.lines, maxFile)
		}
	}
}

var reasonLong = regexp.MustCompile(`(?i)\blong\b`)

func TestLongFunctionsStateTheirReason(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || f.gen {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
			if n > maxFunc && !isTable(fn) && !(fn.Doc != nil && reasonLong.MatchString(fn.Doc.Text())) {
				t.Errorf("%s: %s has %d lines (limit %d): split it, or end its comment with the reason (\"Long because …\")",
					f.at(fn.Pos()), funcName(fn), n, maxFunc)
			}
		}
	}
}

// The lock file must install from whatever registry its user has configured.
func TestLockFileNamesNoHost(t *testing.T) {
	for _, name := range []string{"package-lock.json", "package.json", ".npmrc"} {
		b, err := os.ReadFile(filepath.Join(moduleRoot, "test", "e2e", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{`"resolved": "http`, "registry=", "registry."} {
			if strings.Contains(string(b), bad) {
				t.Errorf("test/e2e/%s contains %q: regenerate it with omit-lockfile-registry-resolved=true (test/e2e/.npmrc)", name, bad)
			}
		}
	}
}

// isTable says whether the function only returns a literal: rows are data, not code.
func isTable(fn *ast.FuncDecl) bool {
	if len(fn.Body.List) != 1 {
		return false
	}
	r, ok := fn.Body.List[0].(*ast.ReturnStmt)
	if !ok || len(r.Results) != 1 {
		return false
	}
	_, ok = r.Results[0].(*ast.CompositeLit)
	return ok
}
