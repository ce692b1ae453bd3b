package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	driver "go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/bson"
)

// bin is the directory with the built binary and its links.
var bin string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cairn-cli-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		bin = dir
		var out []byte
		out, err = exec.Command("go", "build", "-o", filepath.Join(bin, "cairn"), "github.com/cairndb/cairn/cmd/cairn").CombinedOutput()
		os.Stderr.Write(out)
	}
	for _, link := range []string{"mongodump", "mongorestore", "bsondump"} {
		if err == nil {
			err = os.Symlink("cairn", filepath.Join(bin, link))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building cairn:", err)
		return 1
	}
	return m.Run()
}

// Each script has a server of its own at $URI, and another at $URI2. $SHOP is one with a
// little data, which the scripts that only read share; it is a string without options.
func TestScripts(t *testing.T) {
	shop, _, _ := strings.Cut(cairntest.Start(t, cairntest.ReplSet("rs")), "?")
	loadShop(t, shop)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			t := e.T().(testing.TB)
			e.Setenv("URI", cairntest.Start(t, cairntest.ReplSet("rs")))
			e.Setenv("SHOP", shop)
			e.Setenv("URI2", cairntest.Start(t))
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			// A file that scripts cannot hold: two documents.
			docs := append(bson.D("_id", 1, "n", "apple").Clone(), bson.D("_id", 2, "n", "pear!")...)
			return os.WriteFile(filepath.Join(e.WorkDir, "goods.bson"), docs, 0o600)
		},
	})
}

// loadShop puts the data of the scripts on the server.
func loadShop(t *testing.T, uri string) {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetDirect(true))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(context.Background())
	db := c.Database("shop")
	for n, name := range []string{"orders", "items", "odd/name"} {
		for id := range 3 + n {
			if _, err := db.Collection(name).InsertOne(context.Background(), driver.D{{Key: "_id", Value: id}, {Key: "x", Value: fmt.Sprint("v", id)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.CreateView(context.Background(), "view", "orders", mongo.Pipeline{}); err != nil {
		t.Fatal(err)
	}
}
