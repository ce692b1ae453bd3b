// Package tool owns what the backup tools share: the command line in the form of the
// original tools (groups, names, texts, defaults, errors), the merging of a connection
// string with flags, passwords, TLS, authentication and connecting, facts about the
// server, the log and the progress lines on standard error, signals, the file names of
// namespaces, and files that get their name only when they are whole.
//
// It promises that a command line the originals refuse is refused with the same words,
// that no password is ever printed, and that a file made with CreateWhole is either whole
// under its name or not there under that name.
//
// It must not know dump, restore or any other tool; it prints nothing but through the Log
// it is given and ends no process.
package tool
