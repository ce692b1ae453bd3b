package expr

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/cockroachdb/apd/v3"
	driver "go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

func readGolden(t *testing.T) []bson.Raw {
	f, err := os.Open("testdata/semantics.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []bson.Raw
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if !bytes.Contains(sc.Bytes(), []byte(`"kind":"expr"`)) {
			continue
		}
		var d driver.Raw
		if err := driver.UnmarshalExtJSON(sc.Bytes(), true, &d); err != nil {
			t.Fatalf("%s: %v", sc.Text(), err)
		}
		out = append(out, bson.Raw(d))
	}
	return out
}

const optimizePrefix = "Failed to optimize pipeline :: caused by :: "

// outcome is a result or an error, as text that shows types.
func outcome(v bson.Value, err error) string {
	if err != nil {
		e, _ := mongoerr.As(err)
		if e == nil {
			return "plain error: " + err.Error()
		}
		return fmt.Sprintf("error %d: %s", e.Code, e.Message)
	}
	return typed(v)
}

func typed(v bson.Value) string {
	switch v.Type {
	case bson.TypeMissing:
		return "missing"
	case bson.TypeDouble:
		return fmt.Sprintf("double %v", v.Double())
	case bson.TypeArray, bson.TypeDocument:
		var sb strings.Builder
		sb.WriteString(v.Type.String())
		for k, e := range v.Doc().Elems() {
			sb.WriteString(" " + k + ":(" + typed(e) + ")")
		}
		return sb.String()
	}
	return fmt.Sprintf("%s %s", v.Type, ValueText(v))
}

// goldenOutcome is what the server said.
func goldenOutcome(d bson.Raw) string {
	if c := d.Get("code"); !c.IsMissing() {
		return fmt.Sprintf("error %d: %s", c.Int32(), strings.TrimPrefix(d.Get("errmsg").Str(), optimizePrefix))
	}
	r := d.Get("r")
	if r.Type == bson.TypeDocument {
		if m := r.Doc().Get("$missing"); !m.IsMissing() {
			return "missing"
		}
	}
	return typed(r)
}

func TestGoldenExpressions(t *testing.T) {
	checked, differs := 0, map[string]int{}
	failures := map[string][]string{}
	for _, d := range readGolden(t) {
		name := d.Get("op").Str()
		if op := Lookup(name); op == nil || op.Status != Implemented {
			continue
		}
		b := bson.NewArrayBuilder(nil)
		for v := range d.Get("args").Doc().Values() {
			b.Append("", bson.D("$literal", v).Value())
		}
		e, err := ParseOperator(name, bson.Array(b.Finish()).Value(), nil)
		var v bson.Value
		if err == nil {
			env := &Env{}
			env.Reset(bson.Empty)
			v, err = e.Eval(env)
		}
		got, want := outcome(v, err), goldenOutcome(d)
		checked++
		if got == want {
			continue
		}
		if why := documentedDifference(name, d, got, want); why != "" {
			differs[why]++
			continue
		}
		failures[name] = append(failures[name], fmt.Sprintf("%s\n   got  %s\n   want %s", ToJSON(d.Get("args")), got, want))
	}
	names := make([]string, 0, len(failures))
	for n := range failures {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		fs := failures[n]
		t.Errorf("%s: %d lines differ, for instance\n%s", n, len(fs), strings.Join(fs[:min(len(fs), goldenShown)], "\n"))
	}
	if checked < 12000 {
		t.Errorf("only %d lines checked", checked)
	}
	t.Logf("%d lines checked; documented differences: %v", checked, differs)
}

const goldenShown = 6

// documentedDifference gives the reason why 8.0 answers otherwise than 4.2.2, or "".
func documentedDifference(name string, d bson.Raw, got, want string) string {
	arg := d.Get("args").Doc().Get("0")
	for _, c := range typeMismatch {
		if name == c.op && strings.HasPrefix(want, "error "+c.old) && strings.HasPrefix(got, "error 14: ") {
			return "arithmetic on a wrong type is TypeMismatch since 5.0, not a location code"
		}
	}
	switch {
	case name == "$divide" && strings.HasPrefix(want, "error 16608") && strings.HasPrefix(got, "error 2: "):
		return "division by zero is BadValue since 5.0"
	case name == "$log" && strings.HasPrefix(want, "decimal") && strings.HasPrefix(got, "decimal"):
		return "4.2.2 divides by the base, not by its logarithm, where a decimal takes part"
	case (name == "$ln" || name == "$pow") && closeDecimals(got, want):
		return "the server's decimal library is off in the last digits; ours are rounded correctly"
	case name == "$pow" && got == "decimal 1.000000000000000000000000000000000" && d.Get("args").Doc().Get("1").Decimal128().IsZero():
		return "10 to the power of decimal -0 is 1, 4.2.2 says 0"
	case name == "$multiply" && strings.HasPrefix(want, "error 31109"):
		return "$multiply no longer coerces doubles to long"
	case name == "$toString" && arg.Type == bson.TypeBinary:
		return "8.0 converts binary data to a string"
	case name == "$toDate" && arg.Type == bson.TypeTimestamp:
		return "timestamps convert to dates since 4.4"
	case name == "$toDate" && arg.Type == bson.TypeString && strings.HasPrefix(want, "error 241") && strings.HasPrefix(got, "error 241"):
		return "the reader of free dates words its errors otherwise; the code is the same"
	}
	return ""
}

// closeDecimals reports whether two decimals differ by less than 10^-32 of their size.
func closeDecimals(a, b string) bool {
	a, ok1 := strings.CutPrefix(a, "decimal ")
	b, ok2 := strings.CutPrefix(b, "decimal ")
	x, err1 := bson.ParseDecimal128(a)
	y, err2 := bson.ParseDecimal128(b)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || x.IsInf() || y.IsInf() || x.IsZero() || y.IsZero() {
		return false
	}
	var q apd.Decimal
	_, _ = bson.DecimalContext.Quo(&q, x.APD(), y.APD())
	_, _ = bson.DecimalContext.Sub(&q, &q, apd.New(1, 0))
	q.Negative = false
	return q.Cmp(apd.New(1, -32)) < 0
}

var typeMismatch = []struct{ op, old string }{
	{"$add", "16554"}, {"$subtract", "16556"}, {"$subtract", "16613"}, {"$multiply", "16555"}, {"$divide", "16609"},
}

func TestTable(t *testing.T) {
	prev := ""
	for _, op := range Table() {
		if op.Name <= prev {
			t.Errorf("%s does not follow %s: out of order or twice", op.Name, prev)
		}
		prev = op.Name
		if op.Status == Implemented && op.eval == nil && op.parse == nil {
			t.Errorf("%s has no evaluation", op.Name)
		}
		if op.Since == "" || op.Status == Implemented && op.Help == "" {
			t.Errorf("%s lacks its version or help", op.Name)
		}
	}
}
