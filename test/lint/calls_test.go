package lint

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// evalBanned are the packages that would make eval depend on the machine it runs on.
var evalBanned = map[string]string{
	"os":           "eval touches no files and no environment",
	"context":      "eval takes an interrupt function as an argument",
	"math/rand":    "$rand's source comes in as an argument",
	"math/rand/v2": "$rand's source comes in as an argument",
}

func TestEvalIsPure(t *testing.T) {
	for _, f := range sources(t) {
		if f.room() != "eval" || f.test {
			continue
		}
		for p := range f.imports() {
			if why, bad := evalBanned[p]; bad {
				t.Errorf("%s imports %s: %s", f.rel, p, why)
			}
			if p == "net" || strings.HasPrefix(p, "net/") {
				t.Errorf("%s imports %s: eval opens no sockets", f.rel, p)
			}
		}
		f.calls("time", func(sel string, pos token.Pos) {
			switch sel {
			case "Now", "Since", "Until", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc":
				t.Errorf("%s calls time.%s: eval has no clock; $$NOW comes in as an argument", f.at(pos), sel)
			}
		})
	}
}

func TestNoInit(t *testing.T) {
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init: use a literal table or construct it in the caller; nothing runs at import", f.at(fn.Pos()))
			}
		}
	}
}

// In a test with testing/synctest, Sleep moves the bubble's clock and takes no time.
func TestNoSleep(t *testing.T) {
	for _, f := range sources(t) {
		if _, bubble := f.imports()["testing/synctest"]; bubble && f.test {
			continue
		}
		f.calls("time", func(sel string, pos token.Pos) {
			if sel == "Sleep" {
				t.Errorf("%s: time.Sleep: wait for the condition itself (channel, context, sync.Cond, ticker in a select); in tests use testing/synctest", f.at(pos))
			}
		})
	}
}

// writesFiles are the functions of package os that change the file system.
var writesFiles = words(`Create CreateTemp OpenFile WriteFile Mkdir MkdirAll MkdirTemp Remove RemoveAll Rename
	Truncate Symlink Link Chmod Chown Chtimes CopyFS NewFile`)

// mayWriteFiles are the rooms and top directories that own files.
var mayWriteFiles = "storage backup node cmd test cairntest examples"

// fileExceptions are single calls elsewhere, each with its reason.
var fileExceptions = map[string]string{
	"server Remove": "the Unix socket's file belongs to the listener",
	"server Chmod":  "the Unix socket's file belongs to the listener",
}

func TestFilesAreWrittenByTheirOwners(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || mayUse(f, mayWriteFiles) {
			continue
		}
		f.calls("os", func(sel string, pos token.Pos) {
			if _, ok := fileExceptions[f.room()+" "+sel]; writesFiles[sel] && !ok {
				t.Errorf("%s: os.%s: only %s write files; go through storage's file system, or add the call with its reason to fileExceptions",
					f.at(pos), sel, strings.ReplaceAll(mayWriteFiles, " ", ", "))
			}
		})
	}
}
