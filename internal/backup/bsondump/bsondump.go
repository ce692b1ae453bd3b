// Package bsondump prints the documents of a .bson file as extended JSON, or their
// structure for debugging, as the original bsondump does, byte for byte.
//
// It owns the tool's command line and its two forms of output. It promises that no bytes
// make it panic, that it never holds more than one document, and that a file which ends
// within a document or has an impossible length is an error after the documents before it.
// It must not know servers.
package bsondump

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/backup/tool"
)

const usage = `<options> <file>

View and debug .bson files.

See http://docs.mongodb.com/database-tools/bsondump/ for more information.`

// Output says what is read and how it is printed.
type Output struct {
	Type     string `long:"type" value-name:"<type>" default:"json" default-mask:"-" description:"type of output: debug, json"`
	ObjCheck bool   `long:"objcheck" description:"validate BSON during processing"`
	Pretty   bool   `long:"pretty" description:"output JSON formatted to be human-readable"`
	BSONFile string `long:"bsonFile" description:"path to BSON file to dump to JSON; default is stdin"`
	OutFile  string `long:"outFile" description:"path to output file to dump BSON to; default is stdout"`
}

// Options is a parsed command line.
type Options struct {
	*tool.Options
	Output Output
}

// ParseOptions reads the command line. original is the form under the name bsondump.
func ParseOptions(args []string, original bool, version, commit string) (*Options, error) {
	c := tool.Config{Name: "bsondump", Usage: usage, Version: version, Commit: commit}
	if !original {
		c.Name = "cairn bsondump"
	}
	o := &Options{Options: tool.NewOptions(c)}
	o.AddGroup("output", &o.Output)
	rest, err := o.Parse(args)
	if errors.Is(err, tool.ErrVerbosity) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("error parsing command line options: %v", err)
	}
	if len(rest) > 1 {
		return nil, fmt.Errorf("too many positional arguments: %v", rest)
	}
	if len(rest) == 1 {
		if o.Output.BSONFile != "" {
			return nil, errors.New("cannot specify both a positional argument and --bsonFile")
		}
		o.Output.BSONFile = rest[0]
	}
	switch o.Output.Type {
	case "", "debug", "json":
		return o, nil
	}
	// The original has its arguments in this order, too.
	return nil, fmt.Errorf("unsupported output type %#q. Must be either %#q or %#q", "debug", "json", o.Output.Type)
}

// maxDocument is the longest document the original reads.
const maxDocument = 16<<10 + 16<<20

// bufferSize is how much is read and written at once.
const bufferSize = 64 << 10

// Run prints in's documents to out and returns how many there were. Documents that cannot
// be printed are logged, with --objcheck they end it.
func Run(o *Options, log *tool.Log, in io.Reader, out io.Writer) (int, error) {
	w := bufio.NewWriterSize(out, bufferSize)
	print := o.printJSON
	if o.Output.Type == "debug" {
		print = o.printDebug
	}
	n, err := each(in, func(n int, doc bson.Raw) error { return print(log, w, n, doc) })
	if ferr := w.Flush(); err == nil {
		err = ferr
	}
	return n, err
}

// each hands out the documents of a stream.
func each(in io.Reader, fn func(n int, doc bson.Raw) error) (int, error) {
	r := bufio.NewReaderSize(in, bufferSize)
	var buf []byte
	for n := 0; ; n++ {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		size := binary.LittleEndian.Uint32(head[:])
		if size < 5 {
			return n, fmt.Errorf("invalid BSONSize: %v bytes is less than 5 bytes", size)
		}
		if size > maxDocument {
			return n, fmt.Errorf("invalid BSONSize: %v bytes is larger than maximum of %d bytes", size, maxDocument)
		}
		buf = slices.Grow(buf[:0], 4)[:4]
		copy(buf, head[:])
		// The buffer grows with what is there, not with what the length promises.
		for len(buf) < int(size) {
			at := len(buf)
			step := min(int(size)-at, max(at, bufferSize))
			buf = slices.Grow(buf, step)[:at+step]
			if _, err := io.ReadFull(r, buf[at:]); err != nil {
				if err == io.EOF && at == 4 {
					return n, fmt.Errorf("invalid bson: %v", err)
				}
				return n, io.ErrUnexpectedEOF
			}
		}
		if err := fn(n, buf); err != nil {
			return n, err
		}
	}
}

func (o *Options) printJSON(log *tool.Log, w *bufio.Writer, n int, doc bson.Raw) error {
	text, err := formatJSON(doc, o.Output.Pretty)
	if err != nil {
		log.Always("unable to dump document %v: %v", n+1, err)
		if o.Output.ObjCheck {
			return err
		}
		return nil
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return w.WriteByte('\n')
}

// formatJSON makes canonical extended JSON that reads back as a document.
func formatJSON(doc bson.Raw, pretty bool) ([]byte, error) {
	text, err := bson.MarshalExtJSON(doc, true, false)
	if err != nil {
		return nil, fmt.Errorf("error converting BSON to extended JSON: %v", err)
	}
	var back bson.D
	if err := bson.UnmarshalExtJSON(text, true, &back); err != nil {
		return nil, fmt.Errorf("error converting BSON to extended JSON: marshal is not reversible: %v", err)
	}
	if !pretty {
		return text, nil
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "\t"); err != nil {
		return nil, fmt.Errorf("error prettifying extended JSON: %v", err)
	}
	return b.Bytes(), nil
}

func (o *Options) printDebug(log *tool.Log, w *bufio.Writer, _ int, doc bson.Raw) error {
	if o.Output.ObjCheck {
		var v bson.M
		if err := bson.Unmarshal(doc, &v); err != nil {
			return fmt.Errorf("failed to validate bson during objcheck: %v", err)
		}
	}
	if err := debugDocument(w, doc, 0); err != nil {
		log.Always("encountered error debugging BSON data: %v", err)
	}
	return nil
}

// debugDocument prints the sizes and types of a document's elements, indented.
func debugDocument(w *bufio.Writer, doc bson.Raw, depth int) error {
	indent := strings.Repeat("\t", depth)
	fmt.Fprintf(w, "%v--- new object ---\n%v\tsize : %v\n", indent, indent, len(doc))
	elements, err := doc.Elements()
	if err != nil {
		return err
	}
	for _, e := range elements {
		v := e.Value()
		fmt.Fprintf(w, "%v\t\t%v\n%v\t\t\ttype: %4d size: %v\n", indent, e.Key(), indent, int8(v.Type), len(e))
		if v.Type == bson.TypeEmbeddedDocument || v.Type == bson.TypeArray {
			if err := debugDocument(w, v.Value, depth+3); err != nil {
				return err
			}
		}
	}
	return nil
}

// Open opens what the options name. close commits the output: an output file gets its
// name only if ok.
func (o *Options) Open(stdin io.Reader, stdout io.Writer) (in io.Reader, out io.Writer, close func(ok bool) error, err error) {
	in, out = stdin, stdout
	var inFile *os.File
	if p := o.Output.BSONFile; p != "" {
		if inFile, err = os.Open(filepath.FromSlash(p)); err != nil {
			return nil, nil, nil, fmt.Errorf("getting BSON reader failed: couldn't open BSON file: %v", err)
		}
		in = inFile
	}
	var file *tool.WholeFile
	if p := o.Output.OutFile; p != "" {
		if file, err = tool.CreateWhole(filepath.FromSlash(p)); err != nil {
			if inFile != nil {
				inFile.Close()
			}
			return nil, nil, nil, fmt.Errorf("getting Writer failed: %v", err)
		}
		out = file
	}
	return in, out, func(ok bool) error {
		if inFile != nil {
			inFile.Close() // read only
		}
		if file == nil {
			return nil
		}
		if !ok {
			return file.Abort()
		}
		return file.Commit()
	}, nil
}
