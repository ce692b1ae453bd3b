package entry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
)

// chainOf makes the entries of a script: words of ts, txnNumber, prev and what, such as
// "5 t1 p0 partial:1,2" with the _ids of inserts.
func chainEntry(t testing.TB, word string) Entry {
	t.Helper()
	var ts, txn, prev int
	var what string
	if _, err := fmt.Sscanf(word, "%d t%d p%d %s", &ts, &txn, &prev, &what); err != nil {
		t.Fatalf("%s: %v", word, err)
	}
	kind, ids, _ := strings.Cut(what, ":")
	b := bson.NewBuilder(nil)
	b.Timestamp("ts", bson.Timestamp(ts)).Int64("t", 1)
	if kind == "plain" {
		b.Str("op", "i").Str("ns", "d.c").AppendDoc("o", bson.D("_id", ts))
	} else {
		b.AppendDoc("lsid", bson.D("id", bson.UUID{1})).Int64("txnNumber", int64(txn)).Str("op", "c").Str("ns", "admin.$cmd")
		switch {
		case prev == 0:
			b.AppendDoc("prevOpTime", bson.D("ts", bson.Timestamp(0), "t", int64(-1)))
		case prev > 0:
			b.AppendDoc("prevOpTime", bson.D("ts", bson.Timestamp(prev), "t", int64(1)))
		}
		b.Doc("o")
		switch kind {
		case "commit":
			b.Int32("commitTransaction", 1)
		case "abort":
			b.Int32("abortTransaction", 1)
		default:
			b.Array("applyOps")
			for _, id := range strings.Split(ids, ",") {
				if id != "" {
					b.AppendDoc("", bson.D("op", "i", "ns", "d.c", "o", bson.D("_id", id)))
				}
			}
			b.End()
			if kind != "whole" {
				b.Bool(map[string]string{"partial": "partialTxn", "prepare": "prepare"}[kind], true)
			}
		}
		b.End()
	}
	e, err := Parse(b.Finish())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAssembler(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script []string
		want   string // units: ts[first]=ids
		open   string
		err    string
	}{
		{"plain", []string{"1 t0 p0 plain", "2 t0 p0 plain"}, "1 2", "", ""},
		{"whole", []string{"1 t1 p0 whole:a,b"}, "1[1]=a,b", "", ""},
		{"of 4.0", []string{"1 t1 p-1 whole:a"}, "1[1]=a", "", ""},
		{"partial", []string{"1 t1 p0 partial:a", "2 t0 p0 plain", "3 t1 p1 partial:b", "4 t1 p3 whole:c"}, "2 4[1]=a,b,c", "", ""},
		{"interleaved", []string{"1 t1 p0 partial:a", "2 t2 p0 partial:x", "3 t2 p2 whole:y", "4 t1 p1 whole:b"}, "3[2]=x,y 4[1]=a,b", "", ""},
		{"prepared", []string{"1 t1 p0 prepare:a", "2 t0 p0 plain", "3 t1 p1 commit"}, "2 3[1]=a", "", ""},
		{"prepared in parts", []string{"1 t1 p0 partial:a", "2 t1 p1 prepare:b", "3 t1 p2 commit"}, "3[1]=a,b", "", ""},
		{"prepared and empty", []string{"1 t1 p0 prepare:", "2 t1 p1 commit"}, "2[1]=", "", ""},
		{"aborted", []string{"1 t1 p0 prepare:a", "2 t1 p1 abort", "3 t2 p0 whole:b"}, "3[3]=b", "", ""},
		{"abort of what was not seen", []string{"2 t1 p1 abort"}, "", "", ""},
		{"unfinished", []string{"1 t1 p0 partial:a", "2 t2 p0 prepare:b", "3 t0 p0 plain"}, "3", "unfinished transaction of 1 operations since 0:1, prepared transaction of 1 operations since 0:2", ""},
		{"begins before", []string{"5 t1 p3 whole:b"}, "", "", "continues entries that are not here"},
		{"commit of what was not seen", []string{"5 t1 p3 commit"}, "", "", "prepared before the first entry"},
		{"commit without prepare", []string{"1 t1 p0 partial:a", "2 t1 p1 commit"}, "", "", "not prepared"},
		{"a hole", []string{"1 t1 p0 partial:a", "3 t1 p2 whole:c"}, "", "", "does not continue"},
		{"begun twice", []string{"1 t1 p0 partial:a", "3 t1 p0 whole:c"}, "", "", "begins again"},
		{"more after prepare", []string{"1 t1 p0 prepare:a", "3 t1 p1 whole:c"}, "", "", "prepared already"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var a Assembler
			var got []string
			var failed error
			for _, w := range tc.script {
				e := chainEntry(t, w)
				raw := e.Raw.Clone()
				e, err := Parse(raw)
				if err != nil {
					t.Fatal(err)
				}
				units, err := a.Add(e)
				if err != nil {
					failed = err
					break
				}
				for _, u := range units {
					s := fmt.Sprint(uint64(u.OpTime.TS))
					if u.Txn {
						var ids []string
						for _, o := range u.Entries {
							if o.OpTime != u.OpTime {
								t.Errorf("an operation at %v of a unit at %v", o.OpTime, u.OpTime)
							}
							ids = append(ids, o.ID().Str())
						}
						s += fmt.Sprintf("[%d]=%s", uint64(u.First.TS), strings.Join(ids, ","))
					}
					got = append(got, s)
				}
				for i := range raw { // what is held must not alias the caller's bytes
					raw[i] = 0xAA
				}
			}
			if g := strings.Join(got, " "); g != tc.want {
				t.Errorf("units %q, want %q", g, tc.want)
			}
			var ce *ChainError
			if tc.err != "" && (!errors.As(failed, &ce) || !strings.Contains(failed.Error(), tc.err)) || tc.err == "" && failed != nil {
				t.Errorf("error %v, want %q", failed, tc.err)
			}
			var open []string
			for _, o := range a.Unfinished() {
				open = append(open, o.String())
			}
			if tc.err == "" && strings.Join(open, ", ") != tc.open {
				t.Errorf("open %v", open)
			}
			oldest, ok := a.Open()
			if ok != (len(open) > 0) || ok && oldest != a.Unfinished()[0].First {
				t.Errorf("oldest %v %v", oldest, ok)
			}
		})
	}
}

func TestSplitAcrossParts(t *testing.T) {
	var a Assembler
	var units []Unit
	for _, w := range []string{"1 t1 p0 partial:a", "2 t1 p1 whole:b"} {
		e := chainEntry(t, w)
		us, err := a.Add(e)
		if err != nil {
			t.Fatal(err)
		}
		units = append(units, us...)
	}
	units[0].Entries[1].NS, units[0].Entries[1].Coll = "d.x", "x"
	_, _, err := rulesOf(t, "+d.c").MapUnit(units[0])
	var se *SplitTransactionError
	if !errors.As(err, &se) || se.Kept != "d.c" || se.Dropped != "d.x" {
		t.Errorf("got %v", err)
	}
	out, keep, err := rulesOf(t, "+d.c", "split").MapUnit(units[0])
	if err != nil || !keep || len(out.Entries) != 1 {
		t.Errorf("split: %v %v %v", out, keep, err)
	}
	if _, keep, err := rulesOf(t, "+e.*").MapUnit(units[0]); keep || err != nil {
		t.Errorf("none: %v %v", keep, err)
	}
}
