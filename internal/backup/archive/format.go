package archive

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"strconv"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// Magic is the number in the first four bytes of an archive, little endian.
const Magic uint32 = 0x8199e26d

// FormatVersion is the only version of the format there is.
const FormatVersion = "0.1"

// MaxDocument is the longest document an archive may carry: what a server stores, and
// the room that an oplog entry needs around it.
const MaxDocument = 16<<20 + 64<<10

const (
	terminator  = 0xffffffff
	minDocument = 5
	sealMark    = " crc64:"
	sealDigits  = 16
)

var (
	terminatorBytes = []byte{0xff, 0xff, 0xff, 0xff}
)

// Header is the first document of the prelude.
type Header struct {
	ConcurrentCollections int32  // collections that the dump wrote at once; a restore takes at least as many
	Version               string // FormatVersion
	ServerVersion         string // of the server that was dumped
	ToolVersion           string // of the tool that wrote the archive, without the seal
}

// CollectionMetadata announces one namespace in the prelude.
type CollectionMetadata struct {
	DB         string // "" for the oplog
	Collection string // the collection's own name; the data of a time-series collection are under system.buckets.
	Metadata   string // canonical extended JSON, the content of a .metadata.json file; "" where there is none
	Size       int64  // what the dump expected; the originals write 0
	Type       string // "", "collection", "view" or "timeseries"
}

// Prelude is what comes before the data.
type Prelude struct {
	Header
	Collections []CollectionMetadata
	// Seal makes a Writer append a checksum of the prelude to the tool version, which
	// the original tools print and do not read. After reading it says that there was one.
	Seal bool
}

// FormatError says where and how an archive is damaged.
type FormatError struct {
	Namespace string // "" outside of any namespace
	Offset    int64  // of the first byte that is known not to be right
	Why       string
	Err       error // what reading said, if that failed
}

// errEmpty is that not one byte could be read. It is no io.EOF, which means a good end.
var errEmpty = errors.New("the archive is empty")

// Error begins as the originals' message of a damaged archive does.
func (e *FormatError) Error() string {
	if e.Err == errEmpty {
		return fmt.Sprintf("%s: %v", e.Why, io.EOF) // nothing is there that could be corrupt
	}
	var b strings.Builder
	b.WriteString("corruption found in archive; ")
	b.WriteString(e.Why)
	if e.Err != nil {
		fmt.Fprintf(&b, " ( %v )", e.Err)
	}
	if e.Namespace != "" {
		fmt.Fprintf(&b, ", in namespace `%s`", e.Namespace)
	}
	fmt.Fprintf(&b, ", at byte %d", e.Offset)
	return b.String()
}

// Unwrap returns what reading said.
func (e *FormatError) Unwrap() error { return e.Err }

// namespace joins the two parts as the originals do: the oplog is ".oplog".
func namespace(db, coll string) string { return db + "." + coll }

// dataNames returns the names under which the data of a collection may come.
func (c *CollectionMetadata) dataNames() []string {
	if c.Type == "timeseries" {
		// Servers before 8.3 store buckets in a collection of their own.
		return []string{namespace(c.DB, "system.buckets."+c.Collection), namespace(c.DB, c.Collection)}
	}
	return []string{namespace(c.DB, c.Collection)}
}

func (h *Header) encode(toolVersion string) bson.Raw {
	b := bson.NewBuilder(nil)
	b.Int32("concurrent_collections", h.ConcurrentCollections)
	version := h.Version
	if version == "" {
		version = FormatVersion
	}
	b.Str("version", version).Str("server_version", h.ServerVersion).Str("tool_version", toolVersion)
	return b.Finish()
}

func (c *CollectionMetadata) encode() bson.Raw {
	b := bson.NewBuilder(nil)
	b.Str("db", c.DB).Str("collection", c.Collection).Str("metadata", c.Metadata)
	b.IntOrLong("size", c.Size).Str("type", c.Type)
	return b.Finish()
}

// encode returns the bytes of the whole prelude, magic number and terminator included.
func (p *Prelude) encode() []byte {
	tool := p.ToolVersion
	if p.Seal {
		tool += sealMark + strings.Repeat("0", sealDigits)
	}
	out := binary.LittleEndian.AppendUint32(nil, Magic)
	out = append(out, p.Header.encode(tool)...)
	seal := len(out) - 2 - sealDigits // before the string's and the document's ends
	for i := range p.Collections {
		out = append(out, p.Collections[i].encode()...)
	}
	out = append(out, terminatorBytes...)
	if p.Seal {
		copy(out[seal:], fmt.Sprintf("%0*x", sealDigits, crc64.Checksum(out, crcTable)))
	}
	return out
}

func decodeHeader(doc bson.Raw) (h Header, sum uint64, sealed bool, err error) {
	err = fields(doc, []field{
		{"concurrent_collections", bson.TypeInt32, func(v bson.Value) { h.ConcurrentCollections = v.Int32() }},
		{"version", bson.TypeString, func(v bson.Value) { h.Version = clone(v) }},
		{"server_version", bson.TypeString, func(v bson.Value) { h.ServerVersion = clone(v) }},
		{"tool_version", bson.TypeString, func(v bson.Value) { h.ToolVersion = clone(v) }},
	})
	if err != nil {
		return h, 0, false, err
	}
	if h.Version != FormatVersion {
		return h, 0, false, fmt.Errorf("format version %q is not known, only %q", h.Version, FormatVersion)
	}
	if h.ConcurrentCollections < 0 {
		return h, 0, false, fmt.Errorf("%d concurrent collections", h.ConcurrentCollections)
	}
	if cut := len(h.ToolVersion) - len(sealMark) - sealDigits; cut >= 0 && h.ToolVersion[cut:cut+len(sealMark)] == sealMark {
		digits := h.ToolVersion[cut+len(sealMark):]
		sum, err = strconv.ParseUint(digits, 16, 64)
		if err != nil || strings.ToLower(digits) != digits {
			return h, 0, false, fmt.Errorf("the seal %q is not a checksum", digits)
		}
		h.ToolVersion, sealed = h.ToolVersion[:cut], true
	}
	return h, sum, sealed, nil
}

func decodeMetadata(doc bson.Raw) (c CollectionMetadata, err error) {
	err = fields(doc, []field{
		{"db", bson.TypeString, func(v bson.Value) { c.DB = clone(v) }},
		{"collection", bson.TypeString, func(v bson.Value) { c.Collection = clone(v) }},
		{"metadata", bson.TypeString, func(v bson.Value) { c.Metadata = clone(v) }},
		{"size", anyInt, func(v bson.Value) { c.Size, _ = v.AsInt64() }},
		{"type", bson.TypeString, func(v bson.Value) { c.Type = clone(v) }},
	})
	switch {
	case err != nil:
	case c.Collection == "":
		err = fmt.Errorf("a collection without a name")
	case strings.Contains(c.DB, "."):
		err = fmt.Errorf("%q is not the name of a database", c.DB)
	case c.Size < 0:
		err = fmt.Errorf("size %d", c.Size)
	case c.Type != "" && c.Type != "collection" && c.Type != "view" && c.Type != "timeseries":
		err = fmt.Errorf("collection type %q is not known", c.Type)
	case c.Metadata != "" && !json.Valid([]byte(c.Metadata)):
		err = fmt.Errorf("the metadata of `%s` are not JSON", namespace(c.DB, c.Collection))
	}
	return c, err
}

// blockHeader begins a block of documents or, with eof, ends a namespace.
type blockHeader struct {
	db, coll string
	eof      bool
	crc      uint64
}

func (h blockHeader) encode() bson.Raw {
	b := bson.NewBuilder(nil)
	b.Str("db", h.db).Str("collection", h.coll).Bool("EOF", h.eof).Int64("CRC", int64(h.crc))
	return b.Finish()
}

func decodeBlockHeader(doc bson.Raw) (h blockHeader, err error) {
	err = fields(doc, []field{
		{"db", bson.TypeString, func(v bson.Value) { h.db = clone(v) }},
		{"collection", bson.TypeString, func(v bson.Value) { h.coll = clone(v) }},
		{"EOF", bson.TypeBool, func(v bson.Value) { h.eof = v.Bool() }},
		{"CRC", bson.TypeInt64, func(v bson.Value) { h.crc = uint64(v.Int64()) }},
	})
	if err == nil && !h.eof && h.crc != 0 {
		err = fmt.Errorf("a checksum before the end of `%s`", namespace(h.db, h.coll))
	}
	return h, err
}

// anyInt stands for int32 and int64, between which the originals choose by size.
const anyInt = bson.Type(0xf0)

type field struct {
	name string
	typ  bson.Type
	set  func(bson.Value)
}

// fields reads a document that must hold exactly want, in this order: both tools write
// them so, and whatever differs is damage.
func fields(doc bson.Raw, want []field) error {
	if err := bson.Validate(doc, 1); err != nil {
		return err
	}
	it := doc.Iter()
	for _, f := range want {
		if !it.Next() {
			if f.name == "type" && it.Err() == nil {
				return nil // archives from before there were views and time series
			}
			return fmt.Errorf("the field %q is missing", f.name)
		}
		v := it.Value()
		if it.Key() != f.name {
			return fmt.Errorf("the field %q is in the place of %q", it.Key(), f.name)
		}
		if v.Type != f.typ && (f.typ != anyInt || v.Type != bson.TypeInt32 && v.Type != bson.TypeInt64) {
			return fmt.Errorf("the field %q has type %v", f.name, v.Type)
		}
		if v.Type == bson.TypeBool && v.Data[0] > 1 {
			return fmt.Errorf("the field %q is neither true nor false", f.name)
		}
		f.set(v)
	}
	if it.Next() {
		return fmt.Errorf("the field %q is not known", it.Key())
	}
	return it.Err()
}

func clone(v bson.Value) string { return strings.Clone(v.Str()) }
