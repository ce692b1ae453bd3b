package main

import (
	"os"
	"strings"
	"testing"
)

func TestDocumentIsCurrent(t *testing.T) {
	b, err := os.ReadFile("../../docs/COMPATIBILITY.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := document()
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != want {
		t.Error("docs/COMPATIBILITY.md is not what the tables say: run `make docs`")
	}
}

func TestEveryRowSaysWhatItIs(t *testing.T) {
	all, err := sections()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		seen := map[string]bool{}
		for _, e := range s.entries {
			if e.name == "" || seen[e.name] {
				t.Errorf("%s: %q is empty or twice there", s.title, e.name)
			}
			seen[e.name] = true
			if !e.missing && strings.TrimSpace(e.help) == "" {
				t.Errorf("%s: %s is built and has no sentence (Help)", s.title, e.name)
			}
			if e.missing && s.title == "Commands" && (e.note == "" || e.help == "") {
				t.Errorf("%s is not built and has no reason (Note) or no sentence (Help)", e.name)
			}
		}
		if len(s.entries) < 5 || s.built() == 0 {
			t.Errorf("%s has only %d rows, %d built", s.title, len(s.entries), s.built())
		}
	}
}

// TestBuiltSetIsPlausible keeps the examples of tables.go honest: if a parser began to refuse
// everything, the document would still be current.
func TestBuiltSetIsPlausible(t *testing.T) {
	all, err := sections()
	if err != nil {
		t.Fatal(err)
	}
	built := map[string]bool{}
	for _, s := range all {
		for _, e := range s.entries {
			built[s.title+" "+e.name] = !e.missing
		}
	}
	for _, name := range []string{
		"Commands find", "Commands insert", "Filter operators $elemMatch", "Projection operators $", "Projection operators $slice",
		"Update operators $push", "Aggregation stages $group", "Expressions $cond", "Accumulators $sum", "Index kinds unique",
		"Index kinds compound", "Server parameters ttlMonitorEnabled", "Command line options --dbpath",
	} {
		if !built[name] {
			t.Errorf("%s is not built", name)
		}
	}
}
