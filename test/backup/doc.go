// Package backup tests dump and restore together, over servers in the test's process:
// round trips in every form, dumps under concurrent writes whose restore must equal the
// server at the moment the dump ended, renames and $out during a dump, and faults.
//
// It promises that a difference is named by its namespace. It holds tests only and knows
// no internals of the tools: it drives them as their commands do.
package backup
