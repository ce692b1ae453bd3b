//go:build amd64 || arm64

package storage

import "unsafe"

// prefetch asks the processor for the cache lines at p, at p + step and at p + 3*step, two at
// each. It never faults, wherever they are. p is a number because it may lie behind its
// allocation, where a pointer must not.
func prefetch(p, step uintptr)

// prefetchBehind asks for the bytes behind v. The values of a block lie one behind the
// other, so that during a scan these are the next record's: they come in while this one
// is looked at, instead of being waited for (a third of the CPU of a filtered scan of
// 1 KB documents). Behind the last value of a block the request is wasted.
//
// One record is looked at in less time than memory takes to answer, so the ones behind the
// next are asked for too, where they are if all are as long as this one. Of documents of
// different lengths that is a guess that costs an instruction.
func prefetchBehind(v []byte) {
	prefetch(uintptr(unsafe.Pointer(unsafe.SliceData(v)))+uintptr(len(v)), uintptr(len(v)))
}

// prefetchLines asks for all cache lines from p on, n bytes.
func prefetchLines(p, n uintptr)

// prefetchStart asks for the first n bytes of b, or what there is.
func prefetchStart(b []byte, n int) {
	prefetchLines(uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(min(n, len(b))))
}

// prefetchLine asks for the line of p.
func prefetchLine(p unsafe.Pointer) { prefetchLines(uintptr(p), 1) }
