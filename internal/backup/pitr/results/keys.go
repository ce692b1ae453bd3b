package results

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/cairndb/cairn/internal/backup/repo"
)

// Keys are the keys of a repository.
type Keys []repo.KeyInfo

// MarshalJSON has an object, as of every command.
func (ks Keys) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string][]repo.KeyInfo{"keys": append([]repo.KeyInfo{}, ks...)})
}

// Text implements Report.
func (ks Keys) Text(w io.Writer) {
	for _, k := range ks {
		fmt.Fprintf(w, "%s  %-10s  %s  %s %s\n", k.ID, k.Type, k.Created.Format(time.RFC3339), k.Recipient, k.Label)
	}
	if len(ks) == 0 {
		fmt.Fprintln(w, "the repository is not encrypted")
	}
}

// KeyRemoved is a key that opens the repository no more.
type KeyRemoved struct {
	ID string `json:"removedKey"`
}

// Text implements Report.
func (k *KeyRemoved) Text(w io.Writer) { fmt.Fprintf(w, "removed the key %s\n", k.ID) }

// Locks are locks that were removed.
type Locks []repo.LockInfo

// MarshalJSON has an object, as of every command.
func (ls Locks) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string][]repo.LockInfo{"removedLocks": append([]repo.LockInfo{}, ls...)})
}

// Text implements Report.
func (ls Locks) Text(w io.Writer) {
	for i := range ls {
		fmt.Fprintf(w, "removed %s\n", ls[i].String())
	}
	if len(ls) == 0 {
		fmt.Fprintln(w, "no lock was removed")
	}
}
