// Command compat prints docs/COMPATIBILITY.md, made of the tables that the server itself runs by:
// what is listed as supported has a row that does it, and what is missing has a row that refuses it.
//
//	make docs
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/update"
)

func main() { fmt.Fprint(os.Stdout, document()) }

// entry is one name of one table.
type entry struct {
	name, help string
	missing    bool
}

// section is one table.
type section struct {
	title, refusal string // what a client gets that uses a missing name
	entries        []entry
}

func sections() []section {
	return []section{
		{"Filter operators", "`BadValue` 2, \"unknown operator\"", rows(match.Table(), func(r match.Row) entry {
			return entry{r.Name, r.Help, r.Status == match.Missing}
		})},
		{"Update operators", "`FailedToParse` 9, \"Unknown modifier\"", rows(update.Table(), func(r update.Row) entry {
			return entry{r.Name, r.Help, r.Status == update.Missing}
		})},
		{"Expressions", "`InvalidPipelineOperator` 168 or 31325, \"Unrecognized expression\"", rows(expr.Table(), func(r expr.Op) entry {
			return entry{r.Name, r.Help, r.Status == expr.Missing}
		})},
	}
}

// rows folds neighbours of one name: a filter operator may have a row for the top and one for fields.
func rows[T any](table []T, convert func(T) entry) []entry {
	var out []entry
	for _, r := range table {
		e := convert(r)
		if n := len(out); n > 0 && out[n-1].name == e.name {
			out[n-1].missing = out[n-1].missing && e.missing
			continue
		}
		out = append(out, e)
	}
	return out
}

func document() string {
	var b strings.Builder
	b.WriteString("# Compatibility\n\nMade by `make docs` from the server's own tables; do not edit. Behaviour follows MongoDB 8.0. ")
	b.WriteString("What is not here is refused\nwith MongoDB's error, never ignored.\n")
	for _, s := range sections() {
		s.write(&b)
	}
	return b.String()
}

func (s section) write(b *strings.Builder) {
	var missing []string
	built := 0
	for _, e := range s.entries {
		if e.missing {
			missing = append(missing, "`"+e.name+"`")
		} else {
			built++
		}
	}
	fmt.Fprintf(b, "\n## %s: %d of %d\n\n| name | what |\n|---|---|\n", s.title, built, len(s.entries))
	for _, e := range s.entries {
		if !e.missing {
			fmt.Fprintf(b, "| `%s` | %s |\n", e.name, strings.ReplaceAll(e.help, "|", "\\|"))
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(b, "\nNot yet (%s): %s.\n", s.refusal, strings.Join(missing, ", "))
	}
}
