package entry

import (
	"errors"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson/extjson"
)

// rulesOf makes rules from words: +pattern, -pattern, from>to, and "split".
func rulesOf(t testing.TB, words ...string) *Rules {
	t.Helper()
	r := &Rules{}
	for _, w := range words {
		switch from, to, rename := strings.Cut(w, ">"); {
		case w == "split":
			r.SplitTransactions = true
		case rename:
			rn, err := ParseRename(from, to)
			if err != nil {
				t.Fatal(err)
			}
			r.Rename = append(r.Rename, rn)
		default:
			p, err := ParsePattern(w[1:])
			if err != nil {
				t.Fatal(err)
			}
			if w[0] == '+' {
				r.Include = append(r.Include, p)
			} else {
				r.Exclude = append(r.Exclude, p)
			}
		}
	}
	return r
}

func TestNamespaces(t *testing.T) {
	for _, tc := range []struct {
		rules    string
		ns, want string // "" is dropped
	}{
		{"", "d.c", "d.c"},
		{"+d.*", "d.c", "d.c"}, {"+d.*", "dd.c", ""}, {"+d.*", "d.a.b", "d.a.b"},
		{"+*.c", "x.c", "x.c"}, {"+*", "x.y", "x.y"}, {"+d.c", "d.cc", ""},
		{"-d.c", "d.c", ""}, {"-d.c", "d.d", "d.d"}, {"+d.* -d.s*", "d.secret", ""},
		{`+d.\*`, "d.*", "d.*"}, {`+d.\*`, "d.c", ""}, {`+d.a\\b`, `d.a\b`, `d.a\b`}, {"+d.(x)", "d.(x)", "d.(x)"},
		{"d.*>e.*", "d.c", "e.c"}, {"d.*>e.*", "f.c", "f.c"},
		{"*.c>all.*_c", "x.c", "all.x_c"},
		{"$db$.$coll$>$coll$.$db$", "a.b", "b.a"},
		{"p$n$.c>q.$n$", "p17.c", "q.17"},
		{"d.$c$*>e.$c$", "d.x*", "e.x"}, // with variables an asterisk is itself
		{"d.c>e.one d.*>e.two*", "d.c", "e.twoc"},
		{"d.*>e.* d.c>e.one", "d.c", "e.one"}, // the last that matches
		{"+d.ts d.ts>e.t2", "d.system.buckets.ts", "e.system.buckets.t2"},
		{"+d.x", "d.system.buckets.ts", ""},
		{"+d.x", "d.system.views", "d.system.views"}, {"+e.x", "d.system.views", ""},
		{"+d.x", "d.tmp.agg_out.17", "d.tmp.agg_out.17"}, {"+d.x d.x>e.x", "d.tmp.agg_out.17", "e.tmp.agg_out.17"},
		{"+d.x", "e.tmp.agg_out.17", ""}, {"+d.x", "d.tmpAbCdE.convertToCapped.x", "d.tmpAbCdE.convertToCapped.x"}, {"+d.x", "d.tmp.mine", ""},
		{"-d.*", "d.tmp.agg_out.1", ""},
	} {
		r := rulesOf(t, strings.Fields(tc.rules)...)
		for range 2 { // the second time from memory
			to, keep := r.Namespace(tc.ns)
			if keep != (tc.want != "") || keep && to != tc.want {
				t.Errorf("%s of %s: %q %v, want %q", tc.ns, tc.rules, to, keep, tc.want)
			}
		}
		if _, coll, _ := strings.Cut(tc.ns, "."); tc.want != "" && !IsTemporary(coll) {
			from, ok := r.Sources(tc.want)
			found := !ok
			for _, f := range from {
				found = found || f == tc.ns
			}
			if !found {
				t.Errorf("the sources of %s by %s are %v, without %s", tc.want, tc.rules, from, tc.ns)
			}
		}
	}
}

func TestBadPatterns(t *testing.T) {
	if _, err := ParsePattern("d.$x$"); err == nil {
		t.Error("a variable in a pattern")
	}
	for _, p := range []string{"d.*>e.x", "d.$a>e.b", "$a$.$a$>x.y", "d.$a$>e.$b$", "d.c>e.$b$", "d.$a$>e.$a"} {
		from, to, _ := strings.Cut(p, ">")
		if _, err := ParseRename(from, to); err == nil {
			t.Errorf("%s is taken", p)
		}
	}
	if to, _ := (&Rules{Rename: []Rename{ExactRename("d.*", "e.$x")}}).Namespace("d.*"); to != "e.$x" {
		t.Errorf("exact: %s", to)
	}
	if !ExactPattern("d.*").Match("d.*") || ExactPattern("d.*").Match("d.c") {
		t.Error("exact pattern")
	}
}

func TestWholeDatabase(t *testing.T) {
	for rules, want := range map[string]bool{"": true, "+d.*": true, "+d.c": false, "+e.*": false, "-d.c": false, "-e.c": true, "d.*>e.*": false, "x.*>d.*": false, "x.*>y.*": true, "*.c>all.*": false, "-*.c": false} {
		if got := rulesOf(t, strings.Fields(rules)...).WholeDatabase("d"); got != want {
			t.Errorf("%q: %v", rules, got)
		}
	}
}

func TestMap(t *testing.T) {
	for _, tc := range []struct {
		name, rules, fields string
		ns, o, o2           string // of what comes out; ns "" is dropped
	}{
		{"insert", "d.*>e.*", `"op": "i", "ns": "d.c", ` + uiJSON + `"o": {"_id": 1}`, "e.c", `{"_id":1}`, ""},
		{"dropped", "+e.*", `"op": "i", "ns": "d.c", "o": {"_id": 1}`, "", "", ""},
		{"no-op", "+e.*", `"op": "n", "ns": "", "o": {"msg": "x"}`, "!", `{"msg":"x"}`, ""},
		{"create", "d.*>e.*", `"op": "c", "ns": "d.$cmd", "o": {"create": "c", "idIndex": {"v": 2, "name": "_id_", "ns": "d.c"}}`, "e.$cmd", `{"create":"c","idIndex":{"v":2,"name":"_id_","ns":"e.c"}}`, ""},
		{"create view", "d.c>d.x d.v>d.w", `"op": "c", "ns": "d.$cmd", "o": {"create": "v", "viewOn": "c", "pipeline": []}`, "d.$cmd", `{"create":"w","viewOn":"x","pipeline":[]}`, ""},
		{"createIndexes of 4.0", "d.c>e.x", `"op": "c", "ns": "d.$cmd", "o": {"createIndexes": "c", "ns": "d.c", "key": {"a": 1}}`, "e.$cmd", `{"createIndexes":"x","ns":"e.x","key":{"a":1}}`, ""},
		{"commitIndexBuild", "d.c>e.x", `"op": "c", "ns": "d.$cmd", "o": {"commitIndexBuild": "c", "indexes": [{"ns": "d.c", "name": "a"}, {"name": "b"}]}`, "e.$cmd", `{"commitIndexBuild":"x","indexes":[{"ns":"e.x","name":"a"},{"name":"b"}]}`, ""},
		{"dropIndexes", "d.c>e.x", `"op": "c", "ns": "d.$cmd", "o": {"dropIndexes": "c", "index": "a"}, "o2": {"name": "a", "ns": "d.c"}`, "e.$cmd", `{"dropIndexes":"x","index":"a"}`, `{"name":"a","ns":"e.x"}`},
		{"drop", "+d.x", `"op": "c", "ns": "d.$cmd", "o": {"drop": "c"}`, "", "", ""},
		{"rename within", "+d.*", `"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.c", "to": "d.x"}`, "d.$cmd", `{"renameCollection":"d.c","to":"d.x"}`, ""},
		{"rename renamed", "d.*>e.*", `"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.c", "to": "d.x", "dropTarget": true}`, "e.$cmd", `{"renameCollection":"e.c","to":"e.x","dropTarget":true}`, ""},
		{"rename out", "+d.c d.c>e.y", `"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.c", "to": "d.x", "dropTarget": true}`, "e.$cmd", `{"drop":"y"}`, ""},
		{"rename elsewhere", "+d.z", `"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.c", "to": "d.x"}`, "", "", ""},
		{"rename of a temporary one", "+d.c", `"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.tmp.agg_out.1", "to": "d.c", "dropTarget": true}`, "d.$cmd", `{"renameCollection":"d.tmp.agg_out.1","to":"d.c","dropTarget":true}`, ""},
		{"rename of a temporary one, elsewhere", "+d.c", `"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.tmp.agg_out.1", "to": "d.x"}`, "d.$cmd", `{"drop":"tmp.agg_out.1"}`, ""},
		{"view", "d.c>d.x d.v>d.w", `"op": "i", "ns": "d.system.views", "o": {"_id": "d.v", "viewOn": "c", "pipeline": []}`, "d.system.views", `{"_id":"d.w","viewOn":"x","pipeline":[]}`, ""},
		{"view to another database", "d.*>e.*", `"op": "u", "ns": "d.system.views", "o": {"_id": "d.v", "viewOn": "c"}, "o2": {"_id": "d.v"}`, "e.system.views", `{"_id":"e.v","viewOn":"c"}`, `{"_id":"e.v"}`},
		{"view dropped", "+d.c", `"op": "d", "ns": "d.system.views", "o": {"_id": "d.v"}`, "", "", ""},
		{"dropDatabase of another", "+e.*", `"op": "c", "ns": "d.$cmd", "o": {"dropDatabase": 1}`, "", "", ""},
		{"dropDatabase", "+d.*", `"op": "c", "ns": "d.$cmd", "o": {"dropDatabase": 1}`, "d.$cmd", `{"dropDatabase":1}`, ""},
		{"dropDatabase in part", "+d.c", `"op": "c", "ns": "d.$cmd", "o": {"dropDatabase": 1}`, "d.$cmd partial", `{"dropDatabase":1}`, ""},
		{"drop of all views in part", "+d.c", `"op": "c", "ns": "d.$cmd", "o": {"drop": "system.views"}`, "d.$cmd partial", `{"drop":"system.views"}`, ""},
		{"applyOps", "+d.c d.c>e.x", `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "o": {"_id": 1}}, {"op": "i", "ns": "d.y", "o": {"_id": 2}}]}`, "admin.$cmd", `{"applyOps":[{"op":"i","ns":"e.x","o":{"_id":1}}]}`, ""},
		{"nested applyOps", "+d.c", `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.y", "o": {"_id": 2}}]}}, {"op": "c", "ns": "d.$cmd", "o": {"drop": "c"}}]}`, "admin.$cmd", `{"applyOps":[{"op":"c","ns":"d.$cmd","o":{"drop":"c"}}]}`, ""},
		{"applyOps of others", "+d.c", `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.y", "o": {"_id": 2}}]}`, "", "", ""},
		{"part of a transaction", "+d.c split", txnJSON + nullPrev + `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.y", "o": {"_id": 2}}], "partialTxn": true}`, "admin.$cmd", `{"applyOps":[],"partialTxn":true}`, ""},
		{"end of a transaction", "+d.c split", txnJSON + nullPrev + `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "o": {"_id": 2}}, {"op": "d", "ns": "d.y", "o": {"_id": 2}}], "count": 7}`, "admin.$cmd", `{"applyOps":[{"op":"i","ns":"d.c","o":{"_id":2}}]}`, ""},
		{"commit", "+d.c", txnJSON + `"op": "c", "ns": "admin.$cmd", "o": {"commitTransaction": 1}`, "admin.$cmd", `{"commitTransaction":1}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := Parse(stamped(tc.fields))
			if err != nil {
				t.Fatal(err)
			}
			out, keep, err := rulesOf(t, strings.Fields(tc.rules)...).Map(e)
			if err != nil {
				t.Fatal(err)
			}
			if keep != (tc.ns != "") {
				t.Fatalf("kept: %v", keep)
			}
			if !keep {
				return
			}
			ns, partial := strings.CutSuffix(tc.ns, " partial")
			if ns != "!" && out.NS != ns || out.Partial != partial || extjson.String(out.O) != tc.o || out.O2 != nil && extjson.String(out.O2) != tc.o2 {
				t.Errorf("%s %s %s partial %v", out.NS, extjson.String(out.O), extjson.String(out.O2), out.Partial)
			}
			if out.OpTime != e.OpTime || out.Wall != e.Wall || out.UUID != e.UUID || out.TxnNumber != e.TxnNumber || string(out.LSID) != string(e.LSID) {
				t.Errorf("changed more than names: %s", out.Raw)
			}
		})
	}
}

func TestBorders(t *testing.T) {
	into := `"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.x", "to": "d.c"}`
	for name, tc := range map[string]struct {
		rules, fields string
		as            any
	}{
		"into what is kept":    {"+d.c", into, new(*BorderError)},
		"into two databases":   {"d.x>e.x d.c>f.c", into, new(*BorderError)},
		"half a transaction":   {"+d.c", txnJSON + nullPrev + `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "o": {"_id": 2}}, {"op": "d", "ns": "d.y", "o": {"_id": 2}}]}`, new(*SplitTransactionError)},
		"a view of two places": {"d.c>e.c", `"op": "i", "ns": "d.system.views", "o": {"_id": "d.v", "viewOn": "c", "pipeline": []}`, new(*ViewError)},
		"no namespace":         {"d.c>nowhere", `"op": "i", "ns": "d.c", "o": {"_id": 1}`, new(*FormatError)},
	} {
		e, err := Parse(stamped(tc.fields))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = rulesOf(t, strings.Fields(tc.rules)...).Map(e); err == nil || !errors.As(err, tc.as) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
