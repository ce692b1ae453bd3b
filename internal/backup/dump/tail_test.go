package dump

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/backup/entry"
	"github.com/cairndb/cairn/internal/backup/tool"
	raw "github.com/cairndb/cairn/internal/bson"
)

func testTail(t *testing.T, args ...string) (*tail, *bytes.Buffer) {
	t.Helper()
	o, err := ParseOptions(append(args, "--oplog"), false, "test", "")
	if err != nil {
		t.Fatal(err)
	}
	d := &Dump{opts: o, log: tool.NewLog(new(bytes.Buffer), 0), man: newManager()}
	var spool bytes.Buffer
	tl := &tail{d: d, w: bufio.NewWriter(&spool)}
	tl.forget()
	if err := tl.makeRules(); err != nil {
		t.Fatal(err)
	}
	return tl, &spool
}

var (
	uuidA = bson.Binary{Subtype: 4, Data: bytes.Repeat([]byte{0xa}, 16)}
	uuidB = bson.Binary{Subtype: 4, Data: bytes.Repeat([]byte{0xb}, 16)}
)

func command(ns string, ui any, o ...any) bson.D {
	var d bson.D
	for i := 0; i < len(o); i += 2 {
		d = append(d, bson.E{Key: o[i].(string), Value: o[i+1]})
	}
	e := bson.D{{Key: "ts", Value: bson.Timestamp{T: 5, I: 1}}, {Key: "t", Value: int64(1)}, {Key: "v", Value: int64(2)}, {Key: "op", Value: "c"}, {Key: "ns", Value: ns}, {Key: "o", Value: d}}
	if ui != nil {
		e = append(e, bson.E{Key: "ui", Value: ui})
	}
	return e
}

func feed(tl *tail, entries ...bson.D) error {
	for _, d := range entries {
		b, err := bson.Marshal(d)
		if err != nil {
			return err
		}
		e, err := entry.Parse(b)
		if err != nil {
			return err
		}
		if err := tl.write(e); err != nil {
			return err
		}
	}
	return tl.w.Flush()
}

func op(kind, ns string) bson.D {
	return bson.D{{Key: "op", Value: kind}, {Key: "ns", Value: ns}, {Key: "o", Value: bson.D{{Key: "_id", Value: 1}}}}
}

// Of a transaction only the part for what is dumped is kept, and that is said.
func TestTransactionInPart(t *testing.T) {
	tl, spool := testTail(t, "-d", "d")
	txn := command("admin.$cmd", nil, "applyOps", bson.A{op("i", "d.a"), op("i", "other.o")})
	txn = append(txn, bson.E{Key: "lsid", Value: bson.D{{Key: "id", Value: uuidA}}}, bson.E{Key: "txnNumber", Value: int64(1)},
		bson.E{Key: "prevOpTime", Value: bson.D{{Key: "ts", Value: bson.Timestamp{}}, {Key: "t", Value: int64(-1)}}})
	if err := feed(tl, txn); err != nil {
		t.Fatal(err)
	}
	if n := tl.d.result.Notes; len(n) != 1 || !strings.Contains(n[0], "the transaction at 5:1 also writes other.o") {
		t.Errorf("notes %q", n)
	}
	if s := spool.String(); !strings.Contains(s, "d.a") || strings.Contains(s, "other.o") {
		t.Errorf("kept %q", s)
	}
}

func TestNamesAtStart(t *testing.T) {
	tl, _ := testTail(t)
	err := feed(tl,
		command("d.$cmd", uuidA, "renameCollection", "d.x", "to", "d.y", "stayTemp", false, "dropTarget", false),
		command("d.$cmd", uuidA, "renameCollection", "d.y", "to", "d.z", "stayTemp", false, "dropTarget", uuidB),
		command("d.$cmd", bson.Binary{Subtype: 4, Data: bytes.Repeat([]byte{0xc}, 16)}, "create", "new"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[byte]string{0xa: "x", 0xc: "", 0xd: "as it is"} {
		name, there := tl.nameAtStart(bytes.Repeat([]byte{id}, 16), "d", "as it is")
		if name != want || there != (want != "") {
			t.Errorf("%x: %q, %v", id, name, there)
		}
	}
	lost := tl.vanished(map[raw.UUID]bool{})
	if len(lost) != 1 || lost[raw.UUID(uuidB.Data)] != "d.z" {
		t.Errorf("vanished: %v", lost)
	}
	if len(tl.d.result.NotReplayable) != 1 {
		t.Errorf("not replayable: %q", tl.d.result.NotReplayable)
	}
}

func TestTailRefuses(t *testing.T) {
	fcv := bson.D{{Key: "ts", Value: bson.Timestamp{T: 1, I: 1}}, {Key: "v", Value: int64(2)}, {Key: "op", Value: "u"}, {Key: "ns", Value: "admin.system.version"},
		{Key: "o2", Value: bson.D{{Key: "_id", Value: "featureCompatibilityVersion"}}}, {Key: "o", Value: bson.D{{Key: "version", Value: "8.0"}}}}
	for want, e := range map[string]bson.D{
		"cannot dump with oplog if admin.system.version is modified": fcv,
		"cannot be replayed": command("d.$cmd", uuidA, "importCollection", "d.x", "dryRun", false),
		"inventCollection":   command("d.$cmd", uuidA, "inventCollection", "x"),
	} {
		tl, _ := testTail(t)
		if err := feed(tl, e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	auth := bson.D{{Key: "ts", Value: bson.Timestamp{T: 1, I: 1}}, {Key: "v", Value: int64(2)}, {Key: "op", Value: "i"}, {Key: "ns", Value: "admin.system.version"},
		{Key: "o", Value: bson.D{{Key: "_id", Value: "authSchema"}, {Key: "currentVersion", Value: 5}}}}
	tl, _ := testTail(t)
	if err := feed(tl, auth); err != nil {
		t.Errorf("the first user made the dump fail: %v", err)
	}
}

// The original's list, in its words.
func TestValidateEntry(t *testing.T) {
	for want, e := range map[string]bson.D{
		"cannot dump with oplog while renames occur":                             command("d.$cmd", uuidA, "renameCollection", "d.x", "to", "d.y"),
		"cannot dump with oplog while importCollection occurs":                   command("d.$cmd", uuidA, "importCollection", "d.x"),
		"cannot dump with oplog while resharding":                                command("config.$cmd", uuidA, "create", "reshardingOperations"),
		"cannot dump with oplog if admin.system.version is modified by {\"ts\":": {{Key: "ts", Value: bson.Timestamp{T: 1}}, {Key: "op", Value: "i"}, {Key: "ns", Value: "admin.system.version"}},
		"": command("d.$cmd", uuidA, "create", "x"),
	} {
		b, err := bson.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := validateEntry(b); err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
