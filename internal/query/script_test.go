package query

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/cairndb/cairn/internal/bson/extjson"
)

// TestScripts runs the scripts in testdata: a command in extended JSON, its reply. Each
// file has a server of its own; -rewrite writes the replies anew.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newServer(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out []string
			for line := range strings.Lines(d.Input) {
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				cmd, err := extjson.Unmarshal([]byte(line))
				if err != nil {
					t.Fatalf("%s: %s: %v", d.Pos, line, err)
				}
				out = append(out, s.command(cmd))
			}
			return strings.Join(out, "\n") + "\n"
		})
	})
}
