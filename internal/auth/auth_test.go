package auth

import (
	"encoding/base64"
	"slices"
	"testing"

	"github.com/xdg-go/scram"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// TestCredentials has a SCRAM client that knows the password talk to a server that knows
// what is stored.
func TestCredentials(t *testing.T) {
	for _, c := range []struct{ user, password, tried string }{
		{"ada", "secret", ""},
		{"a=b,c", "ünïcode ™", ""},
		{"ada", "I\u00adX", "IX"}, // prepared by SASLprep, for SCRAM-SHA-256
		{"ada", "secret", "secret "},
	} {
		creds, err := credentials(c.user, c.password, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		tried, want := c.tried, c.tried != "secret "
		if tried == "" {
			tried = c.password
		}
		for _, m := range mechanisms {
			if m.name == scramSHA1 && c.tried == "IX" {
				continue
			}
			secret := tried
			client := m.hash.NewClient
			if m.name == scramSHA1 {
				secret, client = passwordDigest(c.user, tried), m.hash.NewClientUnprepped
			}
			cl, err := client(c.user, secret, "")
			if err != nil {
				t.Fatal(err)
			}
			if got := converse(t, cl, m.hash, creds.Get(m.name).Doc()); got != want {
				t.Errorf("%s, user %q, password %q, tried %q: authenticated %v", m.name, c.user, c.password, tried, got)
			}
		}
	}
}

func converse(t *testing.T, client *scram.Client, hash scram.HashGeneratorFcn, stored bson.Raw) bool {
	t.Helper()
	raw := func(k string) []byte {
		b, err := base64.StdEncoding.DecodeString(stored.Get(k).Str())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	server, err := hash.NewServer(func(string) (scram.StoredCredentials, error) {
		return scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(raw("salt")), Iters: int(stored.Get("iterationCount").Int32())},
			StoredKey: raw("storedKey"), ServerKey: raw("serverKey")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cc, sc := client.NewConversation(), server.NewConversation()
	msg := ""
	for !sc.Done() {
		if msg, err = cc.Step(msg); err != nil {
			return false
		}
		if msg, err = sc.Step(msg); err != nil {
			return false
		}
	}
	_, err = cc.Step(msg)
	return err == nil && sc.Valid() && cc.Valid()
}

// A password set as its digest is the same as one that the server digests.
func TestDigestedPassword(t *testing.T) {
	creds, err := credentials("ada", passwordDigest("ada", "secret"), []string{scramSHA1}, false)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := scram.SHA1.NewClientUnprepped("ada", passwordDigest("ada", "secret"), "")
	if err != nil {
		t.Fatal(err)
	}
	if !converse(t, cl, scram.SHA1, creds.Get(scramSHA1).Doc()) || creds.Len() != 1 {
		t.Error(creds)
	}
	if got := passwordDigest("user", "pencil"); got != "1c33006ec1ffd90f9cadcbcc0e118200" {
		t.Error(got)
	}
}

// The tables of built-in roles name known actions only, sorted, each resource once.
func TestBuiltinRoles(t *testing.T) {
	for _, db := range []string{adminDB, "app"} {
		for _, n := range builtinNames(db) {
			list, ok := builtin(n)
			if !ok || len(list) == 0 {
				t.Errorf("%s has no privileges", n)
			}
			if len(merge(nil, list)) != len(list) {
				t.Errorf("%s names a resource twice", n)
			}
			for _, p := range list {
				if !slices.IsSorted(p.actions) || len(slices.Compact(slices.Clone(p.actions))) != len(p.actions) {
					t.Errorf("%s: actions on %s are not sorted: %v", n, p.resource, p.actions)
				}
				for _, a := range p.actions {
					if !knownActions[a] {
						t.Errorf("%s: action %s is not known", n, a)
					}
				}
				if res, err := parseResource(p.resource); err != nil || bson.CompareDocs(res, p.resource) != 0 {
					t.Errorf("%s: resource %s: %v", n, p.resource, err)
				}
			}
		}
	}
	for n, want := range map[Name]bool{{"read", "app"}: true, {"root", "admin"}: true, {"root", "app"}: false, {"nosuch", "admin"}: false, {"read", externalDB}: false} {
		if _, ok := builtin(n); ok != want {
			t.Errorf("%s: built-in %v", n, ok)
		}
	}
	for role, parts := range map[string][]string{"clusterAdmin": {"clusterManager", "clusterMonitor", "hostManager"}, "root": {"clusterAdmin", "backup", "restore", "readWriteAnyDatabase"}} {
		whole, _ := builtin(Name{role, adminDB})
		for _, part := range parts {
			list, _ := builtin(Name{part, adminDB})
			if left := subtract(list, whole); len(left) > 0 {
				t.Errorf("%s lacks %v of %s", role, left, part)
			}
		}
	}
}

func TestGraph(t *testing.T) {
	g := newGraph([]bson.Raw{
		extjson.MustParse(`{"_id": "d.a", "role": "a", "db": "d", "privileges": [{"resource": {"db": "d", "collection": "x"}, "actions": ["update", "find"]}], "roles": [{"role": "b", "db": "d"}, {"role": "gone", "db": "d"}]}`),
		extjson.MustParse(`{"_id": "d.b", "role": "b", "db": "d", "privileges": [{"resource": {"db": "d", "collection": "x"}, "actions": ["insert"]}], "roles": [{"role": "a", "db": "d"}, {"role": "read", "db": "d"}, "x"]}`),
		extjson.MustParse(`{"_id": 7, "role": 7}`),
	})
	a, b := Name{"a", "d"}, Name{"b", "d"}
	if got := g.inherited([]Name{a}); !slices.Equal(got, []Name{a, b, {"read", "d"}}) {
		t.Error(got)
	}
	if got := g.allPrivileges([]Name{a}); len(got) != 3 || !slices.Equal(got[0].actions, []string{"find", "insert", "update"}) {
		t.Error(got)
	}
	if err := g.checkGrant(Name{"new", "d"}, []Name{a}); err != nil {
		t.Error(err)
	}
	if err := g.checkGrant(Name{"read2", "admin"}, []Name{a, {"root", "admin"}}); err != nil {
		t.Error(err)
	}
}

// FuzzStored shows users and roles whose documents came from elsewhere: whatever they
// are, they are shown without a panic, and privileges that parse are canonical.
func FuzzStored(f *testing.F) {
	for _, s := range []string{
		`{"_id": "d.a", "role": "a", "db": "d", "privileges": [{"resource": {"db": "d", "collection": "x"}, "actions": ["find"]}], "roles": [{"role": "a", "db": "d"}]}`,
		`{"_id": "d.u", "user": "u", "db": "d", "credentials": {"SCRAM-SHA-1": {}}, "roles": [{"role": "a", "db": "d"}, 7], "authenticationRestrictions": [{"clientSource": ["::1"]}]}`,
		`{"role": "a", "db": "d", "privileges": [{"resource": {"cluster": true, "db": ""}, "actions": "x"}, 1], "roles": {"0": 1}}`,
		`{}`,
	} {
		f.Add([]byte(extjson.MustParse(s)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc := bson.Raw(data)
		if bson.Validate(doc, 200) != nil {
			return
		}
		g := newGraph([]bson.Raw{doc})
		for n := range g {
			check(t, g.describe(n, true, true))
		}
		r := &Request{Body: bson.D("usersInfo", 1, "showPrivileges", true, "showAuthenticationRestrictions", true)}
		check(t, r.describeUser(doc, g))
		check(t, r.describeUser(doc, nil))
		if list, err := parsePrivileges("x", doc.Get("privileges")); err == nil && doc.Get("privileges").Type == bson.TypeArray {
			again, err := parsePrivileges("x", privilegeArray(list).Value())
			if err != nil || len(again) != len(list) {
				t.Errorf("%v became %v, %v", list, again, err)
			}
		}
		if v := doc.Get("authenticationRestrictions"); v.Type == bson.TypeArray {
			_ = checkRestrictions(v)
		}
	})
}

func check(t *testing.T, doc bson.Raw) {
	t.Helper()
	if err := bson.Validate(doc, 200); err != nil {
		t.Errorf("%v: %x", err, []byte(doc))
	}
}
