// Package crash crashes a whole server in the process: a random workload on a file
// system that forgets what was not synced, cloned at random moments and opened again.
// What must hold afterwards is in crash_test.go.
package crash
