package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/node"
)

// TestUsersCrash changes users and roles while the server is crashed again and again: what
// was acknowledged is there, a role is gone from all that had it or from none, and the log
// alone makes the same users and roles.
func TestUsersCrash(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d", s)
	rng := rand.New(rand.NewPCG(s, 77))
	fs := vfs.NewCrashableMem()
	ctx := context.Background()
	n, err := node.Start(ctx, config(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	wc := bson.D("w", 1, "j", true)
	must := func(cmd bson.Raw) {
		t.Helper()
		if _, err := n.Run(ctx, "app", cmd); err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
	}
	users := map[string][]string{} // name → roles, as acknowledged
	roles := map[string]bool{}
	for i := range 40 {
		role := fmt.Sprint("r", rng.IntN(4))
		user := fmt.Sprint("u", i)
		switch {
		case !roles[role]:
			must(bson.D("createRole", role, "privileges", bson.A(), "roles", bson.A("read"), "writeConcern", wc))
			roles[role] = true
		case rng.IntN(3) == 0:
			must(bson.D("dropRole", role, "writeConcern", wc))
			delete(roles, role)
			for u, list := range users {
				users[u] = slices.DeleteFunc(list, func(r string) bool { return r == role })
			}
		default:
			must(bson.D("createUser", user, "pwd", "p", "mechanisms", bson.A("SCRAM-SHA-1"), "roles", bson.A(role), "writeConcern", wc))
			users[user] = []string{role}
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(rng.Uint64(), 3))})
		checkUsers(t, clone, users, roles, i%10 == 9)
		if t.Failed() {
			return
		}
	}
}

func checkUsers(t *testing.T, fs vfs.FS, users map[string][]string, roles map[string]bool, replay bool) {
	t.Helper()
	ctx := context.Background()
	n, err := node.Start(ctx, config(fs))
	if err != nil {
		t.Errorf("reopen: %v", err)
		return
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Errorf("close of the copy: %v", err)
		}
	}()
	reply, err := n.Run(ctx, "app", bson.D("rolesInfo", 1))
	if err != nil {
		t.Error(err)
		return
	}
	if got := reply.Get("roles").Doc().Len(); got != len(roles) {
		t.Errorf("%d roles, want %d", got, len(roles))
	}
	if reply, err = n.Run(ctx, "app", bson.D("usersInfo", 1)); err != nil {
		t.Error(err)
		return
	}
	found := 0
	for v := range reply.Get("users").Doc().Values() {
		found++
		var got []string
		for r := range v.Doc().Get("roles").Doc().Values() {
			got = append(got, r.Doc().Get("role").Str())
		}
		if want, ok := users[v.Doc().Get("user").Str()]; !ok || !slices.Equal(got, want) {
			t.Errorf("user %s has roles %v, want %v (known: %v)", v.Doc().Get("user").Str(), got, want, ok)
		}
	}
	if found != len(users) {
		t.Errorf("%d users, want %d", found, len(users))
	}
	if !replay {
		return
	}
	if err := replayUsers(ctx, n); err != nil {
		t.Error(err)
	}
}

// replayUsers applies what the log says of users and roles to an empty server, and its
// second half once more.
func replayUsers(ctx context.Context, n *node.Node) (err error) {
	entries, err := oplogEntries(ctx, n)
	if err != nil {
		return err
	}
	other, err := node.Start(ctx, config(vfs.NewMem()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	for _, part := range [][]bson.Raw{entries, entries[len(entries)/2:]} {
		var ops []any
		for _, e := range part {
			_, coll := e.Get("o").Doc().First()
			ns := e.Get("ns").Str()
			if ns == "admin.$cmd" && coll.Type == bson.TypeString {
				ns = "admin." + coll.Str()
			}
			if ns == "admin.system.users" || ns == "admin.system.roles" {
				ops = append(ops, e)
			}
		}
		if _, err := other.Run(ctx, "admin", bson.D("applyOps", bson.A(ops...))); err != nil {
			return fmt.Errorf("applyOps: %w", err)
		}
		for _, coll := range []string{"system.users", "system.roles"} {
			want, err := all(ctx, n, "admin", coll)
			if err != nil {
				return err
			}
			got, err := all(ctx, other, "admin", coll)
			if err != nil {
				return err
			}
			if a, b := fmt.Sprint(sorted(want)), fmt.Sprint(sorted(got)); a != b {
				return fmt.Errorf("the log does not explain %s:\n replayed %s\n found    %s", coll, b, a)
			}
		}
	}
	return nil
}

func sorted(docs []bson.Raw) []bson.Raw {
	slices.SortFunc(docs, bson.CompareDocs)
	return docs
}
