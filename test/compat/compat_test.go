package main

import (
	"os"
	"strings"
	"testing"
)

func TestDocumentIsCurrent(t *testing.T) {
	b, err := os.ReadFile("../../docs/COMPATIBILITY.md")
	if os.IsNotExist(err) {
		t.Skip("docs/COMPATIBILITY.md is not made yet; this check begins with it")
	}
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != document() {
		t.Error("docs/COMPATIBILITY.md is not what the tables say: run `make docs`")
	}
}

func TestEveryRowSaysWhatItIs(t *testing.T) {
	for _, s := range sections() {
		seen := map[string]bool{}
		for _, e := range s.entries {
			if e.name == "" || seen[e.name] {
				t.Errorf("%s: %q is empty or twice there", s.title, e.name)
			}
			seen[e.name] = true
			if !e.missing && strings.TrimSpace(e.help) == "" {
				t.Errorf("%s: %s is supported and has no sentence (Help)", s.title, e.name)
			}
		}
		if len(s.entries) < 10 {
			t.Errorf("%s has only %d rows", s.title, len(s.entries))
		}
	}
}
