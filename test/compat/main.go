// Command compat prints docs/COMPATIBILITY.md, made of the tables that the server itself runs by:
// what is listed as built has a row that does it, and what is missing has a row that refuses it.
//
//	make docs
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	doc, err := document()
	if err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
	fmt.Print(doc)
}

// entry is one name of one table.
type entry struct {
	name    string
	since   string // the version of MongoDB that brought it
	help    string
	note    string // conditions, limits
	missing bool
}

// section is one table.
type section struct {
	title   string
	intro   string // a sentence or two under the title
	refusal string // what a client gets that uses a missing name
	entries []entry
}

func document() (string, error) {
	all, err := sections()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Compatibility\n\nMade by `make docs` from the server's own tables; do not edit. Behaviour follows MongoDB 8.0. What is not here\n" +
		"is refused with MongoDB's error, never ignored. *Since* is the version of MongoDB that brought it.\n\n| part | built | of |\n|---|---|---|\n")
	for _, s := range all {
		fmt.Fprintf(&b, "| [%s](#%s) | %d | %d |\n", s.title, strings.ReplaceAll(strings.ToLower(s.title), " ", "-"), s.built(), len(s.entries))
	}
	for _, s := range all {
		s.write(&b)
	}
	return b.String(), nil
}

func (s section) built() (n int) {
	for _, e := range s.entries {
		if !e.missing {
			n++
		}
	}
	return n
}

func (s section) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n", s.title)
	if s.intro != "" {
		b.WriteString(s.intro + "\n\n")
	}
	s.rows(b, false)
	if s.built() == len(s.entries) {
		return
	}
	if s.built() > 0 {
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "Not built; a client that uses one gets %s.\n\n", s.refusal)
	s.rows(b, true)
}

// rows writes the entries of one state, with the columns that hold anything.
func (s section) rows(b *strings.Builder, missing bool) {
	var since, note, help bool
	var list []entry
	for _, e := range s.entries {
		if e.missing == missing {
			list = append(list, e)
			since, note, help = since || e.since != "", note || e.note != "", help || e.help != ""
		}
	}
	if len(list) == 0 {
		return
	}
	columns := []struct {
		title string
		shown bool
		text  func(entry) string
	}{
		{"name", true, func(e entry) string { return "`" + e.name + "`" }},
		{"since", since, func(e entry) string { return e.since }},
		{"what", help, func(e entry) string { return e.help }},
		{map[bool]string{false: "notes", true: "why not"}[missing], note, func(e entry) string { return e.note }},
	}
	line := func(text func(i int) string) {
		for i, c := range columns {
			if c.shown {
				b.WriteString("| " + strings.ReplaceAll(text(i), "|", "\\|") + " ")
			}
		}
		b.WriteString("|\n")
	}
	line(func(i int) string { return columns[i].title })
	line(func(int) string { return "---" })
	for _, e := range list {
		line(func(i int) string { return columns[i].text(e) })
	}
}
