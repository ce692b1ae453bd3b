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
//
// A mapping that holds a page of its own (one that was written, as a dynamic loader
// writes addresses before it makes them read-only) is left alone: that page is nowhere else.
func releaseProgram() {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	var start, end uint64
	own := true
	release := func() {
		if !own && end > start {
			drop(uintptr(start), uintptr(end-start))
		}
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		field := strings.Fields(lines.Text())
		switch {
		case len(field) == 3 && (field[0] == "Anonymous:" || field[0] == "Swap:"):
			own = own || field[1] != "0"
		case len(field) >= 5 && !strings.HasSuffix(field[0], ":"): // start-end perms offset device inode path
			release()
			own = len(field) < 6 || field[5] != exe || strings.Contains(field[1], "w")
			from, to, _ := strings.Cut(field[0], "-")
			start, _ = strconv.ParseUint(from, 16, 64)
			end, _ = strconv.ParseUint(to, 16, 64)
		}
	}
	release()
}

// drop unmaps the pages of a read-only mapping of a file. The address is no Go object,
// which is why it goes through a pointer to itself.
func drop(start, size uintptr) {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&start))
	_ = unix.Madvise(unsafe.Slice((*byte)(p), size), unix.MADV_DONTNEED) // refused: the pages stay, nothing is lost
}
