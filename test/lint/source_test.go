package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// modulePath is the path in go.mod; an import below it is one of ours.
const modulePath = "github.com/cairndb/cairn"

// goFile is one parsed source file of the module.
type goFile struct {
	rel   string // slash-separated path below the module's root
	dir   string // path.Dir(rel); "." for the root
	test  bool
	lines int
	gen   bool // carries the "Code generated … DO NOT EDIT." marker
	fset  *token.FileSet
	ast   *ast.File
}

// tree is the parsed module, loaded once for all tests.
var tree struct {
	once  sync.Once
	files []*goFile
	err   error
}

// moduleRoot is where go.mod lies, relative to this package's directory (go test runs here).
const moduleRoot = "../.."

// sources returns every Go file of the module, parsed with comments.
func sources(t *testing.T) []*goFile {
	t.Helper()
	tree.once.Do(func() { tree.files, tree.err = loadTree() })
	if tree.err != nil {
		t.Fatalf("reading the module's sources: %v", tree.err)
	}
	return tree.files
}

func loadTree() ([]*goFile, error) {
	var files []*goFile
	err := filepath.WalkDir(moduleRoot, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); p != moduleRoot && (strings.HasPrefix(n, ".") || strings.HasPrefix(n, "_") ||
				n == "node_modules" || n == "testdata" || n == "data" || n == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parseFile(p)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func parseFile(p string) (*goFile, error) {
	src, err := os.ReadFile(p)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	a, err := parser.ParseFile(fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(moduleRoot, p)
	if err != nil {
		return nil, err
	}
	rel = filepath.ToSlash(rel)
	return &goFile{
		rel: rel, dir: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"),
		lines: strings.Count(string(src), "\n"), gen: ast.IsGenerated(a), fset: fset, ast: a,
	}, nil
}

// at names a place in the file for a failure message.
func (f *goFile) at(p token.Pos) string {
	return f.rel + ":" + strconv.Itoa(f.fset.Position(p).Line)
}

// room is the first directory below internal/, or "" for files elsewhere.
func (f *goFile) room() string { return roomOf(f.dir) }

func roomOf(dir string) string {
	rest, ok := strings.CutPrefix(dir, "internal/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// imports returns path → local name. A blank or dot import keeps "_" or ".".
func (f *goFile) imports() map[string]string {
	m := map[string]string{}
	for _, s := range f.ast.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			continue
		}
		m[p] = importName(p, s.Name)
	}
	return m
}

func importName(p string, name *ast.Ident) string {
	if name != nil {
		return name.Name
	}
	base := path.Base(p)
	if len(base) > 1 && base[0] == 'v' && base[1] >= '0' && base[1] <= '9' {
		base = path.Base(path.Dir(p))
	}
	return base
}

// calls visits every use of name pkgPath.X in the file, whatever the import is called.
func (f *goFile) calls(pkgPath string, visit func(sel string, pos token.Pos)) {
	name, ok := f.imports()[pkgPath]
	if !ok {
		return
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == name {
				visit(s.Sel.Name, s.Pos())
			}
		}
		return true
	})
}

// packages groups the files by directory.
func packages(files []*goFile) map[string][]*goFile {
	m := map[string][]*goFile{}
	for _, f := range files {
		m[f.dir] = append(m[f.dir], f)
	}
	return m
}
