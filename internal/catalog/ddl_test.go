package catalog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// TestDDL runs testdata/ddl: each command is its name, the namespace, and arguments in
// extended JSON, one a line. The output is the error or the result, then the entries that
// it logged (UUIDs and times left out).
func TestDDL(t *testing.T) {
	datadriven.Walk(t, "testdata/ddl", func(t *testing.T, path string) {
		n := newNode(t)
		seen := 0
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			var out strings.Builder
			var args []bson.Raw
			for _, line := range strings.Split(strings.TrimSpace(td.Input), "\n") {
				if line != "" {
					args = append(args, extjson.MustParse(line))
				}
			}
			ns := ""
			if len(td.CmdArgs) > 0 {
				ns = td.CmdArgs[0].Key
			}
			res, err := n.ddlCommand(td, ns, args)
			if err != nil {
				e, ok := mongoerr.As(unwrapDoc(err))
				if !ok {
					return err.Error() + "\n"
				}
				fmt.Fprintf(&out, "error %d %s: %s\n", e.Code, e.Code, e.Message)
				if e.Extra != nil {
					fmt.Fprintf(&out, "  %s\n", e.Extra)
				}
			} else if res != "" {
				fmt.Fprintln(&out, strings.TrimSpace(res))
			}
			log := n.entries()
			for _, e := range log[seen:] {
				fmt.Fprintf(&out, "%s\n", entryText(e))
			}
			if seen = len(log); out.Len() == 0 {
				return "ok\n"
			}
			return out.String()
		})
		n.checkAll()
		n.checkRows()
		f := follower(t, n.entries())
		sameState(t, "follower", f.dump(), n.dump())
	})
}

// checkRows reads what is stored of every collection, as a start does.
func (n *node) checkRows() {
	n.t.Helper()
	for _, db := range n.Pin().Databases() {
		for _, c := range n.Pin().Collections(db) {
			row := encodeCollection(c)
			got, err := n.decodeCollection(c.store.Space, row)
			if err != nil {
				n.t.Errorf("%s: %v", c.NS, err)
				continue
			}
			if again := encodeCollection(got); bson.CompareDocs(again, row) != 0 {
				n.t.Errorf("%s is read back as\n%s, not\n%s", c.NS, again, row)
			}
			for i, ix := range got.indexes {
				if ix.kept != c.indexes[i].kept || ix.fields.coll == nil != (c.indexes[i].fields.coll == nil) {
					n.t.Errorf("%s: index %s is read back as another", c.NS, ix.Spec.Name)
				}
			}
		}
	}
}

// entryText shows an entry without what differs from run to run.
func entryText(e bson.Raw) string {
	b := bson.NewBuilder(nil)
	for k, v := range e.Elems() {
		switch k {
		case "ts", "t", "v", "wall":
		case "ui":
			b.Str(k, "…")
		case "ns":
			b.Append(k, hideTemp(v))
		case "o", "o2":
			b.Append(k, hideUUIDs(v))
		default:
			b.Append(k, v)
		}
	}
	return "  " + b.Finish().String()
}

func hideUUIDs(v bson.Value) bson.Value {
	b := bson.NewBuilder(nil)
	for k, e := range v.Doc().Elems() {
		if _, ok := e.UUID(); ok {
			e = bson.V("…")
		} else if e.Type == bson.TypeDocument {
			e = hideUUIDs(e)
		}
		b.Append(k, hideTemp(e))
	}
	return b.Finish().Value()
}

// hideTemp hides the random part of a temporary collection's name.
func hideTemp(v bson.Value) bson.Value {
	s := v.Str()
	i := strings.Index(s, "tmp")
	if v.Type != bson.TypeString || i < 0 {
		return v
	}
	return bson.V(s[:i] + "tmpXXXXX" + s[i+8:])
}

// ddlCommand runs one command of the script. Long because it is the list of them.
func (n *node) ddlCommand(td *datadriven.TestData, ns string, args []bson.Raw) (string, error) {
	arg := bson.Empty
	if len(args) > 0 {
		arg = args[0]
	}
	space := Namespace{DB: ns}
	if i := strings.IndexByte(ns, '.'); i >= 0 {
		space = Namespace{ns[:i], ns[i+1:]}
	}
	switch td.Cmd {
	case "create":
		_, err := n.Create(ctx, space, arg)
		return "", err
	case "insert":
		return "", n.insert(ns, args...)
	case "update":
		return "", n.update(ns, arg)
	case "delete":
		return "", n.delete(ns, arg.Get("_id"))
	case "docs":
		return strings.Join(n.docs(ns), "\n"), nil
	case "drop":
		res, err := n.Drop(ctx, space)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("indexes %d view %v", res.Indexes, res.View), nil
	case "dropDatabase":
		_, err := n.DropDatabase(ctx, ns)
		return "", err
	case "rename":
		_, err := n.Rename(ctx, space, nss(td.CmdArgs[1].Key), RenameOptions{DropTarget: td.HasArg("dropTarget")})
		return "", err
	case "convertToCapped":
		size, _ := arg.Get("size").AsInt64()
		_, err := n.ConvertToCapped(ctx, space, size)
		return "", err
	case "collMod":
		res, err := n.CollMod(ctx, space, arg)
		if err != nil {
			return "", err
		}
		return res.Reply.String(), nil
	case "createIndexes":
		res, err := n.CreateIndexes(ctx, space, args)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("created %v before %d after %d allExist %v", res.CreatedCollection, res.Before, res.After, res.AllExist), nil
	case "dropIndexes":
		res, err := n.DropIndexes(ctx, space, arg.Get("index"))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("was %d all %v", res.Was, res.All), nil
	case "list":
		return n.listAll(ns), nil
	case "series":
		c := n.Pin().Timeseries(space)
		lines := []string{c.TimeseriesOptions().String()}
		for _, ix := range c.ShownIndexes() {
			raw, ok := c.Options.Timeseries.SeriesIndex(ix.Spec.Raw)
			lines = append(lines, fmt.Sprint(raw, " ", ok))
		}
		return strings.Join(lines, "\n"), nil
	}
	return "", fmt.Errorf("unknown command %s", td.Cmd)
}

func (n *node) listAll(db string) string {
	var b strings.Builder
	for _, c := range n.Pin().Collections(db) {
		fmt.Fprintf(&b, "%s %s count %d size %d\n", c.NS, c.Options.Raw, c.Count(), c.DataSize())
		for _, ix := range c.Indexes() {
			fmt.Fprintf(&b, "  %s", ix.Spec.Raw)
			if ix.Multikey() {
				fmt.Fprintf(&b, " multikey %v", ix.MultikeyPaths())
			}
			b.WriteByte('\n')
		}
	}
	for _, v := range n.Pin().Views(db) {
		fmt.Fprintf(&b, "%s %s\n", v.NS, v.Options())
	}
	return b.String()
}
