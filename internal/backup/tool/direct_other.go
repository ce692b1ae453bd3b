//go:build !linux

package tool

import "os"

// setDirect says that files are written through the page cache here.
func setDirect(*os.File, bool) bool { return false }
