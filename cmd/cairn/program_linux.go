package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// releaseProgram gives the unchanged pages of the program's own file back to the page
// cache. What the packages of the cloud stores read while they set themselves up is
// twice what a server that takes no backup ever needs again; a page that is needed
// after all is mapped again from the cache.
func releaseProgram() {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// start-end perms offset device inode path
		field := strings.Fields(lines.Text())
		if len(field) < 6 || field[5] != exe || strings.Contains(field[1], "w") {
			continue // written pages exist nowhere else
		}
		from, to, _ := strings.Cut(field[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || end <= start {
			continue
		}
		drop(uintptr(start), uintptr(end-start))
	}
}

// drop unmaps the pages of a read-only mapping of a file. The address is no Go object,
// which is why it goes through a pointer to itself.
func drop(start, size uintptr) {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&start))
	_ = unix.Madvise(unsafe.Slice((*byte)(p), size), unix.MADV_DONTNEED) // refused: the pages stay, nothing is lost
}
