package tool

import (
	"os"

	"golang.org/x/sys/unix"
)

// setDirect turns the file's way around the page cache on or off. It says whether it is
// as wanted now. It is turned on only on local file systems that are known to do it well.
func setDirect(f *os.File, on bool) bool {
	fd := f.Fd()
	if on {
		var fs unix.Statfs_t
		if unix.Fstatfs(int(fd), &fs) != nil || fs.Type != unix.EXT4_SUPER_MAGIC && fs.Type != unix.XFS_SUPER_MAGIC {
			return false
		}
	}
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	if on {
		flags |= unix.O_DIRECT
	} else {
		flags &^= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(fd, unix.F_SETFL, flags)
	return err == nil
}
