// Package cli runs the command lines of the tools as a shell does: scripts in testdata
// that call the built binary, under its own name and through links of the originals'
// names, and check exit codes and what is written where.
package cli
