package repo_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cairndb/cairn/internal/backup/repo/repotest"
)

// inMemory numbers stores in memory, which live as long as the process.
var inMemory atomic.Int64

func TestSuiteInMemory(t *testing.T) {
	t.Parallel()
	repotest.Run(t, func(*testing.T) string { return fmt.Sprintf("mem://suite/%d/x", inMemory.Add(1)) })
}

func TestSuiteInDirectory(t *testing.T) {
	t.Parallel()
	repotest.Run(t, func(t *testing.T) string { return filepath.Join(t.TempDir(), "a directory") })
}
