package repo_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cairndb/cairn/internal/backup/repo/repotest"
)

func TestSuiteInMemory(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	repotest.Run(t, func(*testing.T) string { return fmt.Sprintf("mem://suite/%d/x", n.Add(1)) })
}

func TestSuiteInDirectory(t *testing.T) {
	t.Parallel()
	repotest.Run(t, func(t *testing.T) string { return filepath.Join(t.TempDir(), "a directory") })
}
