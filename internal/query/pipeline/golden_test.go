package pipeline

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// TestGoldenGroupsAndSort groups and sorts 116 values of all types as a real server did.
func TestGoldenGroupsAndSort(t *testing.T) {
	f, err := os.Open("../../eval/expr/testdata/semantics.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	h := &memHost{colls: map[string][]bson.Raw{}}
	o := testOptions(h, Namespace{"test", "c"})
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, 1<<20)
	groups, sorts := 0, 0
	for sc.Scan() {
		if bytes.Contains(sc.Bytes(), []byte(`"kind":"expr"`)) || bytes.Contains(sc.Bytes(), []byte(`"kind":"match"`)) {
			continue
		}
		d := extjson.MustParse(sc.Text())
		switch d.Get("kind").Str() {
		case "value":
			doc := d.Get("doc").Doc()
			if v := doc.Get("v"); v.Type == bson.TypeTimestamp && v.Timestamp() == 0 {
				// A server replaces an empty timestamp by the time of the insert.
				doc = bson.D("_id", doc.Get("_id"), "v", bson.NewTimestamp(1<<31, 0))
			}
			h.colls["c"] = append(h.colls["c"], doc)
		case "sort":
			sorts++
			got, err := runPlain(h, []bson.Raw{bson.D("$sort", d.Get("sort"))}, o)
			if err != nil {
				t.Fatal(err)
			}
			if ids := idsOf(got, false); ids != d.Get("ids").Str() {
				t.Errorf("sort %s:\n got  %s\n want %s", extjson.String(d.Get("sort").Doc()), ids, d.Get("ids").Str())
			}
		case "group":
			got, err := runPlain(h, []bson.Raw{bson.D("$group", bson.D("_id", "$v", "ids", bson.D("$push", "$_id")))}, o)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]bool{}
			for g := range d.Get("groups").Doc().Values() {
				want[g.Doc().Get("ids").Str()] = true
			}
			for _, g := range got {
				groups++
				if ids := idsOf([]bson.Raw{g}, true); !want[ids] {
					t.Errorf("group of %s is not one of the server's", ids)
				}
			}
			if groups != len(want) {
				t.Errorf("%d groups, the server made %d", groups, len(want))
			}
		}
	}
	if groups == 0 || sorts != 2 {
		t.Errorf("%d groups and %d sorts seen", groups, sorts)
	}
}

// idsOf lists the _ids of documents, or those that a group gathered, ascending.
func idsOf(docs []bson.Raw, gathered bool) string {
	var ids []int64
	for _, d := range docs {
		if !gathered {
			n, _ := d.Get("_id").AsInt64()
			ids = append(ids, n)
			continue
		}
		for v := range d.Get("ids").Doc().Values() {
			n, _ := v.AsInt64()
			ids = append(ids, n)
		}
		slices.Sort(ids)
	}
	var sb strings.Builder
	for i, n := range ids {
		if i > 0 {
			sb.WriteByte(' ')
		}
		sb.WriteString(strconv.FormatInt(n, 10))
	}
	return sb.String()
}
