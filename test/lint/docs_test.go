package lint

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
)

func TestEveryPackageHasADocComment(t *testing.T) {
	for dir, files := range packages(sources(t)) {
		documented := false
		for _, f := range files {
			documented = documented || (f.ast.Doc != nil && len(strings.Fields(f.ast.Doc.Text())) >= 5)
		}
		if !documented {
			t.Errorf("%s has no package comment: say in doc.go what the package owns, what it promises and what it must not know", dir)
		}
	}
}

// wellKnown are methods whose name is their whole contract.
var wellKnown = words("String Error Unwrap Is As Close Len Less Swap Write Read MarshalJSON UnmarshalJSON")

func TestEveryExportedNameIsDocumented(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || f.gen || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if needsDoc(d) && d.Doc == nil {
					t.Errorf("%s: exported %s has no comment: say what it does and what the caller must know", f.at(d.Pos()), funcName(d))
				}
			case *ast.GenDecl:
				undocumentedSpecs(t, f, d)
			}
		}
	}
}

func needsDoc(d *ast.FuncDecl) bool {
	if !d.Name.IsExported() {
		return false
	}
	return d.Recv == nil || (ast.IsExported(receiver(d)) && !wellKnown[d.Name.Name])
}

// receiver is the name of the method's type, without pointer and type parameters.
func receiver(d *ast.FuncDecl) string {
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	return receiver(d) + "." + d.Name.Name
}

// undocumentedSpecs accepts a comment on the group for all its constants and variables.
func undocumentedSpecs(t *testing.T, f *goFile, d *ast.GenDecl) {
	if d.Tok == token.IMPORT {
		return
	}
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
				t.Errorf("%s: exported type %s has no comment", f.at(s.Pos()), s.Name.Name)
			}
		case *ast.ValueSpec:
			if s.Names[0].IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
				t.Errorf("%s: exported %s has no comment (one on the whole group will do)", f.at(s.Pos()), s.Names[0].Name)
			}
		}
	}
}

// The map and the land agree: every room is in docs/ARCHITECTURE.md and every room named there exists.
func TestArchitectureNamesEveryRoom(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(moduleRoot, "docs", "ARCHITECTURE.md"))
	if os.IsNotExist(err) {
		t.Skip("docs/ARCHITECTURE.md is not written yet; this check begins with it")
	}
	if err != nil {
		t.Fatal(err)
	}
	exist := map[string]bool{}
	for _, f := range sources(t) {
		if r := f.room(); r != "" {
			exist[r] = true
		}
	}
	named := namedRooms(string(text))
	for _, r := range sorted(exist) {
		if _, ok := named[r]; !ok {
			t.Errorf("internal/%s is missing in docs/ARCHITECTURE.md: add it to the map as `internal/%s` or as a line of the tree", r, r)
		}
	}
	for _, r := range sorted(named) {
		if !exist[r] && !named[r] {
			t.Errorf("docs/ARCHITECTURE.md names internal/%s, which does not exist: remove it, or write \"planned\" on its line", r)
		}
	}
	if n := strings.Count(string(text), "\n"); n > 300 {
		t.Errorf("docs/ARCHITECTURE.md has %d lines; the map stays under 300: move detail to the document of its subject", n)
	}
}

var (
	internalPath = regexp.MustCompile(`\binternal/([a-z][a-z0-9]*)`)
	treeHead     = regexp.MustCompile(`^\s*internal/(\s|$)`)
	treeLine     = regexp.MustCompile(`^(\s*)([a-z][a-z0-9]*)/`)
)

// namedRooms finds room → whether a line that names it says it is planned. A room is named by
// its path, or by its line in a directory tree below a line "internal/".
func namedRooms(text string) map[string]bool {
	named := map[string]bool{}
	base, level := -1, -1
	for _, line := range strings.Split(text, "\n") {
		planned := strings.Contains(line, "planned")
		for _, m := range internalPath.FindAllStringSubmatch(line, -1) {
			named[m[1]] = named[m[1]] || planned
		}
		m := treeLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		switch depth := len(m[1]); {
		case treeHead.MatchString(line):
			base, level = depth, -1
		case base < 0 || depth <= base:
			base = -1
		case level < 0 || depth == level:
			level = depth
			named[m[2]] = named[m[2]] || planned
		}
	}
	return named
}

func sorted(m map[string]bool) []string {
	var s []string
	for k := range m {
		s = append(s, k)
	}
	sort.Strings(s)
	return s
}

func TestNamedRooms(t *testing.T) {
	got := namedRooms("```\ncmd/cairn/   main\ninternal/\n  bson/     documents; extjson/\n  auth/     planned\n    sub/  not a room\ntest/\n  lint/\n```\nSee internal/wire.\n")
	want := map[string]bool{"bson": false, "auth": true, "wire": false}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for k, v := range want {
		if p, ok := got[k]; !ok || p != v {
			t.Errorf("%s: got %v %v, want %v", k, p, ok, v)
		}
	}
}
