package command

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestEveryArgumentIsRead sweeps the command table: an argument that a row accepts must be
// named by the code that the row runs, or by what the table's dispatcher does with every
// command, so that it is acted on or refused. An argument that nobody names would be a silent
// success. The code of a row is its Run function and all that the package's functions reached
// from there; arguments that are handed on whole are those of parsers in other rooms, whose
// files are named below.
func TestEveryArgumentIsRead(t *testing.T) {
	own := parseDir(t, ".")
	rooms := map[string]*source{"catalog": parseDir(t, "../catalog"), "auth": parseDir(t, "../auth")}
	left := maps.Clone(nothingToDo)
	runs := own.runs(t)
	every := own.reached("run")
	for name, args := range own.rows(t, runs) {
		words := own.reached(runs[name])
		for w := range every {
			words[w] = true
		}
		for _, a := range args {
			room := rooms[handsOn[name]]
			key := strings.Replace(name, "isMaster", "hello", 1) + "." + a
			switch read := words[a] || room != nil && room.all[a]; {
			case read && nothingToDo[key] != "":
				t.Errorf("%s is read now: take it out of the list", key)
			case read:
				continue
			case nothingToDo[key] != "":
				delete(left, key)
				continue
			}
			t.Errorf("the command %s accepts '%s', and nothing that %s reaches names it", name, a, runs[name])
		}
	}
	for key := range left {
		t.Errorf("%s is in the list and in no row", key)
	}
}

// handsOn are the commands whose body is parsed in another room.
var handsOn = map[string]string{"create": "catalog", "createIndexes": "catalog", "collMod": "catalog",
	"createUser": "auth", "updateUser": "auth", "grantRolesToUser": "auth", "revokeRolesFromUser": "auth", "usersInfo": "auth",
	"createRole": "auth", "updateRole": "auth", "grantRolesToRole": "auth", "revokeRolesFromRole": "auth", "rolesInfo": "auth",
	"grantPrivilegesToRole": "auth", "revokePrivilegesFromRole": "auth", "_mergeAuthzCollections": "auth"}

// nothingToDo are arguments that are accepted, and why there is nothing to act on.
var nothingToDo = map[string]string{
	"hello.loadBalanced":                                    "the reply has no serviceId, which tells the driver that there is no load balancer",
	"abortTransaction.recoveryToken":                        "there are no transactions: the command always fails",
	"commitTransaction.recoveryToken":                       "there are no transactions: the command always fails",
	"applyOps.allowAtomic":                                  "operations have not been atomic since 4.4; the servers ignore it too",
	"count.fields":                                          "counting looks at no fields; the servers ignore it too",
	"features.oidReset":                                     "the server makes no ObjectIds whose machine part could be drawn anew",
	"fsync.fsyncLockAcquisitionTimeoutMillis":               "the lock is taken at once: writers between their units are not waited for",
	"getDefaultRWConcern.inMemory":                          "the defaults are only in memory",
	"hello.backpressure":                                    "no backpressure is offered, which the reply says by silence",
	"hello.forShell":                                        "the reply is the same for a shell",
	"hello.hangUpOnStepDown":                                "one member does not step down",
	"hello.hostInfo":                                        "the client's word on itself, beside its metadata",
	"hello.internalClient":                                  "wire versions of other members are of no use to one member",
	"hello.speculativeAuthenticate":                         "a hint: a server without the field in its reply is asked by saslStart",
	"listCollections.authorizedCollections":                 "without access control every collection is authorized",
	"listDatabases.authorizedDatabases":                     "without access control every database is authorized",
	"replSetGetStatus.initialSync":                          "one member has no initial sync to report on",
	"setFeatureCompatibilityVersion.downgradeOnDiskChanges": "the files have no features of one version alone",
	"setFeatureCompatibilityVersion.fromConfigServer":       "says who asks, not what",
	"shutdown.timeoutSecs":                                  "there is no secondary to wait for",
	"validate.scandata":                                     "older drivers' word; the data is always scanned",
	"validate.enforceFastCount":                             "a wrong count is an error of every validation",
}

// source is what a directory's Go files say: for each function the words (string literals) in
// it and the names that it calls or mentions.
type source struct {
	words map[string]map[string]bool
	names map[string]map[string]bool
	all   map[string]bool
	rowOf map[string]*ast.CompositeLit // rows by the command's name
	vars  map[string]*ast.CompositeLit // package variables that are literals
}

func parseDir(t *testing.T, dir string) *source {
	t.Helper()
	s := &source{map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]bool{}, map[string]*ast.CompositeLit{}, map[string]*ast.CompositeLit{}}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), dir+"/"+f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				s.read(d.Name.Name, d)
			case *ast.GenDecl:
				s.variables(d)
			}
		}
	}
	return s
}

// read notes the words and names of a function; methods of one name are taken as one.
func (s *source) read(name string, n ast.Node) {
	words, names := map[string]bool{}, map[string]bool{}
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if v, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
				words[v] = true
				s.all[v] = true
			}
		case *ast.Ident:
			names[n.Name] = true
		}
		return true
	})
	for _, set := range []struct{ all, of map[string]bool }{{words, s.words[name]}, {names, s.names[name]}} {
		maps.Copy(set.all, set.of)
	}
	s.words[name], s.names[name] = words, names
}

// variables notes literals of package variables, and command rows in them.
func (s *source) variables(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if !ok {
			continue
		}
		for i, value := range v.Values {
			lit, ok := value.(*ast.CompositeLit)
			if !ok || i >= len(v.Names) {
				continue
			}
			s.vars[v.Names[i].Name] = lit
			if a, ok := lit.Type.(*ast.ArrayType); ok && isIdent(a.Elt, "Command") {
				for _, e := range lit.Elts {
					row := e.(*ast.CompositeLit)
					s.rowOf[literal(field(row, "Name"))] = row
				}
			} else if !ok || !isIdent(a.Elt, "Arg") && !isIdent(a.Elt, "generic") {
				s.read(v.Names[i].Name, lit) // a table that functions look into
			}
		}
	}
}

// runs are the names of the rows' Run functions.
func (s *source) runs(t *testing.T) map[string]string {
	m := map[string]string{}
	for name, row := range s.rowOf {
		switch run := field(row, "Run").(type) {
		case nil:
		case *ast.Ident:
			m[name] = run.Name
		default:
			m[name] = "the row of " + name
			s.read(m[name], run)
		}
	}
	if len(m) < 60 {
		t.Fatalf("only %d commands found", len(m))
	}
	return m
}

// rows are the arguments of the commands that run.
func (s *source) rows(t *testing.T, runs map[string]string) map[string][]string {
	m := map[string][]string{}
	n := 0
	for name := range runs {
		e := field(s.rowOf[name], "Args")
		if e == nil {
			continue
		}
		list := s.args(e)
		if len(list) == 0 {
			t.Fatalf("the arguments of %s are written in a way that this test cannot read", name)
		}
		slices.Sort(list)
		m[name] = list
		n += len(list)
	}
	if n < 150 {
		t.Fatalf("only %d arguments found", n)
	}
	return m
}

// args reads a list of Arg literals, variables of them, and what append makes of both.
func (s *source) args(e ast.Expr) (names []string) {
	switch e := e.(type) {
	case *ast.Ident:
		if lit := s.vars[e.Name]; lit != nil {
			return s.args(lit)
		}
	case *ast.CallExpr:
		for _, a := range e.Args {
			names = append(names, s.args(a)...)
		}
	case *ast.CompositeLit:
		if isIdent(e.Type, "Arg") || e.Type == nil {
			if name := literal(field(e, "Name")); name != "" {
				return []string{name}
			}
			if len(e.Elts) > 0 {
				if name := literal(e.Elts[0]); name != "" {
					return []string{name}
				}
			}
		}
		for _, el := range e.Elts {
			names = append(names, s.args(el)...)
		}
	}
	return names
}

// reached are the words of a function and of all that it leads to.
func (s *source) reached(from string) map[string]bool {
	words, seen := map[string]bool{}, map[string]bool{from: true}
	for queue := []string{from}; len(queue) > 0; {
		f := queue[0]
		queue = queue[1:]
		maps.Copy(words, s.words[f])
		for n := range s.names[f] {
			if _, ok := s.words[n]; ok && !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	return words
}

func field(lit *ast.CompositeLit, name string) ast.Expr {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok && isIdent(kv.Key, name) {
			return kv.Value
		}
	}
	return nil
}

func literal(e ast.Expr) string {
	if b, ok := e.(*ast.BasicLit); ok && b.Kind == token.STRING {
		v, _ := strconv.Unquote(b.Value)
		return v
	}
	return ""
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}
