package results

import (
	"fmt"
	"io"
	"time"

	"github.com/cairndb/cairn/internal/backup/repo"
)

// Keys are the keys of a repository.
type Keys []repo.KeyInfo

// Text implements Report.
func (ks Keys) Text(w io.Writer) {
	for _, k := range ks {
		fmt.Fprintf(w, "%s  %-10s  %s  %s %s\n", k.ID, k.Type, k.Created.Format(time.RFC3339), k.Recipient, k.Label)
	}
	if len(ks) == 0 {
		fmt.Fprintln(w, "the repository is not encrypted")
	}
}

// Locks are locks that were removed.
type Locks []repo.LockInfo

// Text implements Report.
func (ls Locks) Text(w io.Writer) {
	for i := range ls {
		fmt.Fprintf(w, "removed %s\n", ls[i].String())
	}
	if len(ls) == 0 {
		fmt.Fprintln(w, "no lock was removed")
	}
}
