package repo

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

const (
	markerName   = "cairn-repository"
	markerFormat = "cairn backup repository"
	// markerVersion is the format's version. 2 brought logs, see log.go; what 1 wrote is read, and
	// written on as it is.
	markerVersion = 2

	encryptionNone = "none"
	encryptionAge  = "age"
)

// Marker is the format marker, the only object that is readable without a key: one line of JSON,
// and one with the SHA-256 of the first.
type Marker struct {
	Format     string        `json:"format"`
	Version    int           `json:"version"`
	ID         string        `json:"id"` // random, 32 hexadecimal digits
	Created    time.Time     `json:"created"`
	Encryption string        `json:"encryption"` // none or age
	Chunker    ChunkerParams `json:"chunker"`
	PackSize   int           `json:"packSize"` // bytes, a pack is closed when it reaches this
}

// Encrypted says whether all but the marker is encrypted.
func (m *Marker) Encrypted() bool { return m.Encryption == encryptionAge }

func (m *Marker) encode() ([]byte, error) {
	line, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s\n%s\n", line, digestName(line)), nil
}

// decodeMarker looks at the version before all else: what a newer version wrote may differ in
// every other way, its digest too.
func decodeMarker(data []byte) (*Marker, error) {
	damaged := func(format string, args ...any) error {
		return &CorruptError{Kind: "marker", Object: markerName, Why: fmt.Sprintf(format, args...)}
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	var m Marker
	jsonErr := json.Unmarshal(line, &m)
	sound := string(rest) == digestName(line)+"\n"
	switch {
	case jsonErr == nil && m.Format == markerFormat && m.Version > markerVersion:
		return nil, &VersionError{markerName, m.Version, markerVersion}
	case !sound:
		return nil, damaged("its SHA-256 does not match its bytes")
	case jsonErr != nil:
		return nil, damaged("%v", jsonErr)
	case m.Format != markerFormat:
		return nil, fmt.Errorf("%s is not the marker of a repository: its format is %q", markerName, m.Format)
	case m.Version < 1:
		return nil, damaged("version %d does not exist", m.Version)
	case m.Encryption != encryptionNone && m.Encryption != encryptionAge:
		return nil, damaged("unknown encryption %q", m.Encryption)
	}
	if _, err := hex.DecodeString(m.ID); err != nil || len(m.ID) != 32 {
		return nil, damaged("id %q", m.ID)
	}
	if err := m.Chunker.check(); err != nil {
		return nil, damaged("%v", err)
	}
	if m.PackSize < minPackSize || m.PackSize > maxPackSize {
		return nil, damaged("pack size %d", m.PackSize)
	}
	return &m, nil
}
