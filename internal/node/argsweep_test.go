package node

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/command"
)

// TestEveryArgumentMatters walks the command table on a running node: an argument of a wrong
// type is TypeMismatch, and some value of the right type makes a difference, to the reply or to
// what is stored. Arguments that make none are accepted in silence, which only those may be
// that are listed with a reason.
func TestEveryArgumentMatters(t *testing.T) {
	for a, why := range noDifferenceHello {
		noDifference["hello."+a], noDifference["isMaster."+a] = why, why
	}
	left := maps.Clone(noDifference)
	for _, row := range command.NewTable(command.All()...).Rows() {
		if row.Has(command.Unbuilt) || len(row.Args) == 0 || notSwept[row.Name] != "" {
			continue
		}
		t.Run(row.Name, func(t *testing.T) {
			s := &sweep{t: t, n: startInMemory(t, Config{ReplSet: "rs0", ReplSetAutoInitiate: true, Parameters: []string{"enableTestCommands=1"}}), row: row}
			bases := sweepBase[row.Name]
			if bases == nil {
				bases = []string{fmt.Sprintf(`{"%s": 1}`, row.Name)}
			}
			want := make([]string, len(bases))
			for i := range bases {
				s.base = bases[i]
				want[i] = s.run("", bson.Value{})
				if again := s.run("", bson.Value{}); again != want[i] {
					t.Fatalf("the base of the comparison is not the same twice:\n%s\n%s", want[i], again)
				}
			}
			for _, a := range row.Args {
				s.wrongType(a)
				key := row.Name + "." + a.Name
				matters := false
				for i := range bases {
					s.base = bases[i]
					matters = matters || slices.ContainsFunc(s.values(a), func(v bson.Value) bool { return s.run(a.Name, v) != want[i] })
				}
				switch {
				case matters && noDifference[key] != "":
					t.Errorf("%s makes a difference: take it out of the list", key)
				case !matters && noDifference[key] == "":
					reply, _, _ := strings.Cut(want[0], "\n")
					t.Errorf("no value of %s makes a difference to the reply %s and the data", key, reply)
				}
				delete(left, key)
			}
		})
	}
	for key := range left {
		t.Errorf("%s is in the list and was not looked at", key)
	}
}

// sweep runs variants of one command, each on a database of its own.
type sweep struct {
	t    *testing.T
	n    *Node
	row  *command.Command
	base string // the command, in which DB is the database
	dbs  int
}

// sweepData is what every database has.
var sweepData = []string{
	`{"create": "c", "validator": {"bad": {"$exists": false}}}`,
	`{"insert": "c", "documents": [{"_id": 1, "a": 3, "s": "b"}, {"_id": 2, "a": 1, "s": "A"}, {"_id": 3, "a": 2, "s": "a"}, {"_id": 4, "a": 2, "arr": [1, 2]}]}`,
	`{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1"}]}`,
	`{"create": "other", "capped": true, "size": 4096}`,
	`{"create": "tmp", "temp": true}`,
	`{"createRole": "r0", "privileges": [], "roles": []}`,
}

// sweepBase are commands in which each argument can make a difference; others are run as
// {name: 1}.
var sweepBase = map[string][]string{
	"setFeatureCompatibilityVersion": {
		`{"setFeatureCompatibilityVersion": "8.0", "confirm": true}`,
	},
	"rolesInfo": {
		`{"rolesInfo": "r0"}`,
		`{"rolesInfo": 1}`,
	},
	"usersInfo": {
		`{"usersInfo": "u0"}`,
	},
	"updateRole": {
		`{"updateRole": "r0", "privileges": [], "roles": ["read"]}`,
	},
	"updateUser": {
		`{"updateUser": "u0", "roles": ["read"]}`,
		`{"updateUser": "u0", "pwd": "p"}`,
	},
	"_mergeAuthzCollections": {`{"_mergeAuthzCollections": 1, "db": "DB", "tempUsersCollection": "DB.nosuch"}`},
	"aggregate": {
		`{"aggregate": "c", "pipeline": [{"$match": {"s": {"$gte": "a"}}}, {"$sort": {"s": 1}}], "cursor": {}}`,
		`{"aggregate": "c", "pipeline": [{"$set": {"bad": 1}}, {"$merge": "c"}], "cursor": {}}`,
	},
	"applyOps": {`{"applyOps": [{"op": "i", "ns": "DB.c", "o": {"_id": 9, "bad": 1}}]}`},
	"bulkWrite": {
		`{"bulkWrite": 1, "ops": [{"insert": 0, "document": {"_id": 1}}, {"insert": 0, "document": {"_id": 9, "bad": 1, "t": {"$timestamp": {"t": 0, "i": 0}}}}, {"update": 0, "filter": {"_id": 2}, "updateMods": {"$set": {"x": 1}}}], "nsInfo": [{"ns": "DB.c"}]}`,
		`{"bulkWrite": 1, "ops": [{"insert": 0, "document": {"_id": 9, "bad": 1}}], "nsInfo": [{"ns": "DB.c"}]}`,
		`{"bulkWrite": 1, "ops": [{"insert": 0, "document": {"_id": 9, "t": {"$timestamp": {"t": 0, "i": 0}}}}, {"update": 0, "filter": {"_id": 2}, "updateMods": {"$set": {"x": 1}}}], "nsInfo": [{"ns": "DB.c"}]}`,
	},
	"collStats":          {`{"collStats": "c"}`},
	"configureFailPoint": {`{"configureFailPoint": "failCommand", "mode": "off"}`},
	"convertToCapped":    {`{"convertToCapped": "c", "size": 4096}`},
	"count":              {`{"count": "c", "query": {"s": {"$gte": "a"}}}`},
	"create":             {`{"create": "new"}`},
	"createIndexes":      {`{"createIndexes": "c", "indexes": [{"key": {"s": 1}, "name": "s_1", "unknown": 1}]}`},
	"createRole":         {`{"createRole": "r", "privileges": [], "roles": []}`},
	"createUser":         {`{"createUser": "u", "pwd": "p", "roles": []}`},
	"dataSize":           {`{"dataSize": "DB.c", "keyPattern": {"_id": 1}, "min": {"_id": 1}, "max": {"_id": 3}}`},
	"delete":             {`{"delete": "c", "deletes": [{"q": {"$nosuch": 1}, "limit": 1}, {"q": {"_id": 1}, "limit": 1}]}`},
	"distinct":           {`{"distinct": "c", "key": "s", "query": {"s": {"$gte": "a"}}}`},
	"dropIndexes":        {`{"dropIndexes": "c", "index": "a_1"}`},
	"explain":            {`{"explain": {"find": "c"}}`},
	"find": {
		`{"find": "c", "filter": {"s": {"$gte": "a"}}, "sort": {"s": 1}, "projection": {"_id": 1, "s": 1}}`,
		`{"find": "c", "batchSize": 1}`,
	},
	"findAndModify": {
		`{"findAndModify": "c", "query": {"s": {"$gte": "a"}}, "update": {"$set": {"a": 9, "t": {"$timestamp": {"t": 0, "i": 0}}}}, "sort": {"s": 1}}`,
		`{"findAndModify": "c", "query": {"_id": 9}, "update": {"$set": {"x": 1}}}`,
		`{"findAndModify": "c", "query": {"_id": 1}, "update": {"$set": {"bad": 1}}}`,
		`{"findAndModify": "c", "query": {"_id": 1}, "update": {"_id": 1, "t": {"$timestamp": {"t": 0, "i": 0}}}}`,
	},
	"fsync":                 {`{"fsync": 1}`},
	"getMore":               {`{"getMore": {"$numberLong": "7"}, "collection": "c"}`},
	"grantPrivilegesToRole": {`{"grantPrivilegesToRole": "r", "privileges": []}`},
	"grantRolesToRole":      {`{"grantRolesToRole": "r", "roles": []}`},
	"grantRolesToUser":      {`{"grantRolesToUser": "u", "roles": []}`},
	"insert": {
		`{"insert": "c", "documents": [{"_id": 1}, {"_id": 9, "bad": 1}, {"_id": 10, "t": {"$timestamp": {"t": 0, "i": 0}}}]}`,
		`{"insert": "c", "documents": [{"_id": 9, "bad": 1}]}`,
		`{"insert": "c", "documents": [{"_id": 9, "t": {"$timestamp": {"t": 0, "i": 0}}}]}`,
	},
	"killCursors":    {`{"killCursors": "c", "cursors": [{"$numberLong": "7"}]}`},
	"killOp":         {`{"killOp": 1, "op": 1}`},
	"listIndexes":    {`{"listIndexes": "c"}`},
	"planCacheClear": {`{"planCacheClear": "c"}`},
	"profile":        {`{"profile": -1}`},
	"renameCollection": {
		`{"renameCollection": "DB.c", "to": "DB.other"}`,
		`{"renameCollection": "DB.tmp", "to": "DB.fresh"}`,
	},
	"update": {
		`{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$nosuch": 1}}, {"q": {"_id": 2}, "u": {"$set": {"bad": 1}}}, {"q": {"_id": 9}, "u": {"_id": 9, "t": {"$timestamp": {"t": 0, "i": 0}}}, "upsert": true}]}`,
		`{"update": "c", "updates": [{"q": {"_id": 2}, "u": {"$set": {"bad": 1}}}]}`,
		`{"update": "c", "updates": [{"q": {"_id": 9}, "u": {"_id": 9, "t": {"$timestamp": {"t": 0, "i": 0}}}, "upsert": true}]}`,
	},
	"validate": {`{"validate": "c"}`},
}

// sweepValues are tried before the common values of an argument's types.
var sweepValues = map[string]string{
	"isMaster.client": `{"": [{"application": {"name": "` + strings.Repeat("x", 200) + `"}}]}`,
	"hello.client":    `{"": [{"application": {"name": "` + strings.Repeat("x", 200) + `"}}]}`,
}

// notSwept are commands that cannot be run so.
var notSwept = map[string]string{
	"shutdown": "it would end the node",
	"fsync":    "it would lock the node",
}

// noDifference are arguments whose values make no difference, and why.
var noDifference = map[string]string{
	"_mergeAuthzCollections.db":                             "there are no users in the collections to be merged; mongorestore's tests are of this command",
	"abortTransaction.recoveryToken":                        "there are no transactions: the command always fails",
	"commitTransaction.recoveryToken":                       "there are no transactions: the command always fails",
	"aggregate.allowDiskUse":                                "only beyond 100 MB",
	"find.allowDiskUse":                                     "only beyond 100 MB",
	"find.allowPartialResults":                              "there are no shards that could fail",
	"find.noCursorTimeout":                                  "only after ten minutes",
	"find.oplogReplay":                                      "every find on the log seeks; the servers ignore it since 4.4",
	"applyOps.allowAtomic":                                  "operations have not been atomic since 4.4",
	"count.fields":                                          "counting looks at no fields; the servers ignore it too",
	"create.flags":                                          "of an engine that is no more",
	"delete.bypassDocumentValidation":                       "a delete leaves no document that could be validated",
	"delete.bypassEmptyTsReplacement":                       "a delete stores nothing",
	"features.oidReset":                                     "the server makes no ObjectIds whose machine part could be drawn anew",
	"getDefaultRWConcern.inMemory":                          "the defaults are only in memory",
	"getMore.collection":                                    "without a cursor there is no collection to compare with",
	"listCollections.authorizedCollections":                 "without access control every collection is authorized",
	"listDatabases.authorizedDatabases":                     "without access control every database is authorized",
	"listIndexes.includeBuildUUIDs":                         "only while an index is being built",
	"replSetGetStatus.initialSync":                          "one member has no initial sync to report on",
	"replSetReconfig.force":                                 "each reconfiguration is another version, so that none is the same twice",
	"setFeatureCompatibilityVersion.fromConfigServer":       "says who asks, not what",
	"setFeatureCompatibilityVersion.downgradeOnDiskChanges": "the files have no features of one version alone",
	"validate.background":                                   "says how long writers wait",
	"validate.full":                                         "a sound collection looks the same both ways",
	"validate.enforceFastCount":                             "a wrong count is an error of every validation",
	"validate.scandata":                                     "older drivers' word; the data is always scanned",
}

var noDifferenceHello = map[string]string{
	"backpressure":            "no backpressure is offered, which the reply says by silence",
	"compression":             "a client inside the process has no connection to compress",
	"forShell":                "the reply is the same for a shell",
	"hangUpOnStepDown":        "one member does not step down",
	"hostInfo":                "the client's word on itself, beside its metadata",
	"internalClient":          "wire versions of other members are of no use to one member",
	"loadBalanced":            "the reply has no serviceId, which tells the driver that there is no load balancer",
	"speculativeAuthenticate": "a hint: a server without the field in its reply is asked by saslStart",
}

// run runs the base with one argument replaced or added, and returns what it changed in a form
// that can be compared.
func (s *sweep) run(arg string, v bson.Value) string {
	s.t.Helper()
	s.dbs++
	db := fmt.Sprintf("sweep%d", s.dbs)
	for _, cmd := range sweepData {
		if _, err := s.n.Run(context.Background(), db, extjson.MustParse(cmd)); err != nil {
			s.t.Fatal(cmd, err)
		}
	}
	if name := strings.ToLower(s.row.Name); strings.Contains(name, "user") || strings.Contains(name, "authz") { // making credentials takes long
		if _, err := s.n.Run(context.Background(), db, bson.D("createUser", "u0", "pwd", "p", "roles", bson.A(), "customData", bson.D("x", 1))); err != nil {
			s.t.Fatal(err)
		}
	}
	reply := s.send(db, arg, v)
	var out strings.Builder
	out.WriteString(reply.String())
	for _, look := range []string{`{"find": "c"}`, `{"find": "other"}`, `{"listCollections": 1}`, `{"listIndexes": "c"}`, `{"usersInfo": 1, "showCredentials": true}`, `{"rolesInfo": 1, "showPrivileges": true}`} {
		r, _ := s.n.Run(context.Background(), db, extjson.MustParse(look))
		out.WriteString("\n" + r.String())
	}
	if _, err := s.n.Run(context.Background(), db, bson.D("dropDatabase", 1)); err != nil {
		s.t.Fatal(err)
	}
	return volatile.ReplaceAllString(strings.ReplaceAll(out.String(), db, "DB"), "*")
}

var volatile = regexp.MustCompile(`(UUID|ObjectId|new Date|ISODate|BinData)\([^)]*\)|Timestamp\([1-9][0-9]*, [0-9]+\)|(salt|storedKey|serverKey): "[^"]*"|\b(\w*([mM]illis|[mM]icros)\w*|\w*secs_running|uptime|connectionId|sizeOnDisk|totalSize): [0-9.]+|\bid: -?[0-9]{6,}|, \$clusterTime.*`)

func (s *sweep) send(db, arg string, v bson.Value) bson.Raw {
	s.t.Helper()
	b := bson.NewBuilder(nil)
	done := arg == ""
	for k, old := range extjson.MustParse(strings.ReplaceAll(s.base, "DB", db)).Elems() {
		if k == arg {
			old, done = v, true
		}
		b.Append(k, old)
	}
	if !done {
		b.Append(arg, v)
	}
	where := db
	if s.row.Has(command.AdminOnly) {
		where = "admin"
	}
	reply, err := s.n.Run(context.Background(), where, b.Finish())
	if reply == nil {
		s.t.Fatal(err)
	}
	return reply
}

// wrongType sends a value of a type that the argument does not take.
func (s *sweep) wrongType(a command.Arg) {
	s.t.Helper()
	for _, v := range []bson.Value{bson.V(bson.Regex{Pattern: "x"}), bson.V("text"), bson.V(1), bson.V(bson.Empty)} {
		if a.Types.Allows(v.Type) {
			continue
		}
		r := s.send("wrong", a.Name, v)
		if code, _ := r.Get("code").AsInt64(); code != 14 {
			s.t.Errorf("%s as a %s: %s", a.Name, v.Type, r)
		}
	}
}

// values are values that an argument takes by its type.
func (s *sweep) values(a command.Arg) (list []bson.Value) {
	if own := sweepValues[s.row.Name+"."+a.Name]; own != "" {
		for v := range extjson.MustParse(own).Get("").Doc().Values() {
			list = append(list, v)
		}
	}
	for v := range extjson.MustParse(`{"": [true, false, 0, 1, 2, -1, {"$numberLong": "3"}, "a_1", "_id", "x", "off", "", "simple", {}, {"_id": 1}, {"a": 1}, {"$nosuch": 1}, {"nosuch": 1}, {"locale": "en", "strength": 1},
		{"batchSize": 1}, [], [1], ["c"], [{}], [{"nosuch": 1}], {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAA==", "subType": "04"}}, {"$timestamp": {"t": 1, "i": 1}}, {"$date": "2020-01-01T00:00:00Z"}]}`).Get("").Doc().Values() {
		if a.Types.Allows(v.Type) {
			list = append(list, v)
		}
	}
	return list
}
