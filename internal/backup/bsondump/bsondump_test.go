package bsondump

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/backup/tool"
)

func doc(elements string) string {
	return string(binary.LittleEndian.AppendUint32(nil, uint32(len(elements)+5))) + elements + "\x00"
}

// What the original prints for these, byte for byte.
func TestOddFiles(t *testing.T) {
	one := doc("\x10a\x00\x01\x00\x00\x00")
	for name, c := range map[string]struct {
		in, args string
		out      string
		n        int
		err, log string
	}{
		"nothing":          {},
		"empty document":   {in: doc(""), out: "{}\n", n: 1},
		"two":              {in: one + one, out: "{\"a\":{\"$numberInt\":\"1\"}}\n{\"a\":{\"$numberInt\":\"1\"}}\n", n: 2},
		"cut in length":    {in: one + "\x05", out: "{\"a\":{\"$numberInt\":\"1\"}}\n", n: 1, err: "unexpected EOF"},
		"cut in document":  {in: one[:8], err: "unexpected EOF"},
		"only the length":  {in: one[:4], err: "invalid bson: EOF"},
		"too small":        {in: "\x03\x00\x00\x00abc", err: "invalid BSONSize: 3 bytes is less than 5 bytes"},
		"too large":        {in: "\x00\x00\x40\x01", err: "invalid BSONSize: 20971520 bytes is larger than maximum of 16793600 bytes"},
		"not escaped":      {in: doc("\x02a\x00\x06\x00\x00\x00<a>&\"\x00"), out: `{"a":"<a>&\""}` + "\n", n: 1},
		"unknown type":     {in: doc("\x55a\x00") + one, out: "{\"a\":{\"$numberInt\":\"1\"}}\n", n: 2, log: "unable to dump document 1: error converting BSON to extended JSON"},
		"stops":            {in: doc("\x55a\x00") + one, args: "--objcheck", err: "error converting BSON to extended JSON"},
		"looks like type":  {in: doc("\x03x\x00"+doc("\x02$oid\x00\x02\x00\x00\x00z\x00")) + one, out: "{\"a\":{\"$numberInt\":\"1\"}}\n", n: 2, log: "unable to dump document 1"},
		"debug":            {in: doc("\x03a\x00" + one), args: "--type debug", n: 1, out: "--- new object ---\n\tsize : 20\n\t\ta\n\t\t\ttype:    3 size: 15\n\t\t\t--- new object ---\n\t\t\t\tsize : 12\n\t\t\t\t\ta\n\t\t\t\t\t\ttype:   16 size: 7\n"},
		"debug, broken":    {in: doc("\x55a\x00"), args: "--type debug", n: 1, out: "--- new object ---\n\tsize : 8\n", log: "encountered error debugging BSON data"},
		"debug, validated": {in: doc("\x55a\x00"), args: "--type debug --objcheck", err: "failed to validate bson during objcheck"},
		"pretty":           {in: one, args: "--pretty", n: 1, out: "{\n\t\"a\": {\n\t\t\"$numberInt\": \"1\"\n\t}\n}\n"},
	} {
		o, err := ParseOptions(strings.Fields(c.args), true, "test", "")
		if err != nil {
			t.Fatal(err)
		}
		var out, log bytes.Buffer
		n, err := Run(o, tool.NewLog(&log, 0), strings.NewReader(c.in), &out)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if n != c.n || out.String() != c.out || !strings.HasPrefix(got, c.err) || c.err == "" && got != "" || !strings.Contains(log.String(), c.log) {
			t.Errorf("%s: %d documents, error %q, log %q\n got %q\nwant %q", name, n, got, log.String(), out.String(), c.out)
		}
	}
}

// The golden file has every type; what is printed is what the original prints.
func TestEveryType(t *testing.T) {
	in, err := os.Open("testdata/types.bson")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, c := range []struct{ args, want string }{{"", "testdata/types.json"}, {"--type=debug", "testdata/types.debug"}} {
		o, err := ParseOptions(strings.Fields(c.args), false, "test", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := Run(o, tool.NewLog(new(bytes.Buffer), 0), in, &out); err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(c.want)
		if err != nil || !bytes.Equal(want, out.Bytes()) {
			t.Errorf("%s: %v\n%s", c.want, err, out.String())
		}
	}
}

func TestOptions(t *testing.T) {
	for args, want := range map[string]string{
		"a b":            "too many positional arguments: [a b]",
		"--bsonFile a b": "cannot specify both a positional argument and --bsonFile",
		"--type x":       "unsupported output type `debug`. Must be either `json` or `x`",
		"--foo":          "error parsing command line options: unknown option `foo`",
	} {
		if _, err := ParseOptions(strings.Fields(args), true, "test", ""); err == nil || err.Error() != want {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// No bytes make it panic or hang, and what is printed reads back as the document.
func FuzzBSONDump(f *testing.F) {
	if b, err := os.ReadFile("testdata/types.bson"); err == nil {
		f.Add(b, false)
		f.Add(b[:len(b)/2], true)
	}
	for _, s := range []string{"", "\x05\x00\x00\x00\x00", doc("\x55a\x00"), doc("\x10$numberInt\x00\x01\x00\x00\x00"), doc("\x0ba\x00(\x00i\x00"), doc("\x03a\x00\xff\xff\xff\x7f\x00")} {
		f.Add([]byte(s), false)
	}
	json, err := ParseOptions(nil, true, "test", "")
	if err != nil {
		f.Fatal(err)
	}
	debug, err := ParseOptions([]string{"--type=debug"}, true, "test", "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte, objcheck bool) {
		json.Output.ObjCheck, debug.Output.ObjCheck = objcheck, objcheck
		log := tool.NewLog(new(bytes.Buffer), 0)
		var out bytes.Buffer
		n, _ := Run(json, log, bytes.NewReader(in), &out)
		lines := bytes.Split(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\n"))
		if out.Len() > 0 && len(lines) > n {
			t.Errorf("%d lines for %d documents", len(lines), n)
		}
		for _, line := range lines {
			var d bson.D
			if len(line) > 0 {
				if err := bson.UnmarshalExtJSON(line, true, &d); err != nil {
					t.Errorf("%q does not read back: %v", line, err)
				}
			}
		}
		if m, _ := Run(debug, log, bytes.NewReader(in), &out); m > len(in)/5 || n > len(in)/5 {
			t.Errorf("%d and %d documents in %d bytes", n, m, len(in))
		}
	})
}
