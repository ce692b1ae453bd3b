// Package results writes what `cairn backup` found out: as text for people and as JSON for programs.
//
// It owns the words and the JSON shapes (docs/BACKUP.md lists them), one type for each command. It
// promises that both say the same: the text is made from the value that becomes the JSON, and that
// moments are exact numbers everywhere, with the clock beside them. It must not work on a repository.
package results
