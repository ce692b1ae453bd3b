// Package chain is the arithmetic of `cairn backup`: which moments a set of backups can
// bring back, by which of them, where there are gaps, and which may be deleted.
//
// It owns the model of coverage (pieces of oplog, runs of pieces without a hole, windows of
// restorable moments), the parsing of moments in time as people write them, and the choice of
// what a retention policy keeps. It promises exactness: every moment is a timestamp with its
// increment, ends are inclusive, and a moment is called restorable only if a full backup and
// every oplog entry up to it are there. It knows no server and no storage; it reads no clock.
package chain
