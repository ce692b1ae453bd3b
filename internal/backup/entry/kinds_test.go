package entry

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
)

// stamped is an entry from its own fields and those that every entry has.
func stamped(fields string) bson.Raw {
	return extjson.MustParse(`{"ts": {"$timestamp": {"t": 100, "i": 7}}, "t": {"$numberLong": "3"}, "v": {"$numberLong": "2"}, "wall": {"$date": "2024-05-01T00:00:00Z"}, ` + fields + `}`)
}

const (
	uiJSON   = `"ui": {"$binary": {"base64": "AQIDBAUGBwgJCgsMDQ4PEA==", "subType": "04"}}, `
	uuidJSON = `{"$binary": {"base64": "EAIDBAUGBwgJCgsMDQ4PAQ==", "subType": "04"}}`
	txnJSON  = `"lsid": {"id": {"$binary": {"base64": "AQIDBAUGBwgJCgsMDQ4PEA==", "subType": "04"}}, "uid": {"$binary": {"base64": "", "subType": "00"}}}, "txnNumber": {"$numberLong": "5"}, `
	nullPrev = `"prevOpTime": {"ts": {"$timestamp": {"t": 0, "i": 0}}, "t": {"$numberLong": "-1"}}, `
)

// kindCases are entries as the documentation of MongoDB 3.6 to 8.0 shows them, and of
// what its servers are known to write: one of every kind and form.
var kindCases = []struct {
	name, fields string
	kind         Kind
	touches      string
	class        Class
	aborts       bool // the original mongodump
	unreplayable bool // by the original mongorestore
}{
	{"insert", `"op": "i", "ns": "d.c", ` + uiJSON + `"o": {"_id": 1}`, Insert, "d.c", Apply, false, false},
	{"insert of 3.4, without ui", `"op": "i", "ns": "d.c", "h": {"$numberLong": "99"}, "o": {"_id": 1}`, Insert, "d.c", Apply, false, false},
	{"retryable insert", txnJSON + `"op": "i", "ns": "d.c", ` + uiJSON + nullPrev + `"stmtId": 0, "o": {"_id": 1}`, Insert, "d.c", Apply, false, false},
	{"insert into a clustered collection", `"op": "i", "ns": "d.c", ` + uiJSON + `"o": {"_id": 1}, "o2": {"_id": 1}`, Insert, "d.c", Apply, false, false},
	{"insert of a migration", `"op": "i", "ns": "d.c", "fromMigrate": true, ` + uiJSON + `"o": {"_id": 1}, "o2": {"_id": 1}`, Insert, "d.c", Apply, false, false},
	{"insert with a replicated record id", `"op": "i", "ns": "d.c", "rid": {"$numberLong": "4"}, ` + uiJSON + `"o": {"_id": 1}`, Insert, "d.c", Apply, false, false},
	{"insert into a resharding target", `"op": "i", "ns": "d.c", "destinedRecipient": "s2", ` + uiJSON + `"o": {"_id": 1}`, Insert, "d.c", Apply, false, false},
	{"update by replacement", `"op": "u", "ns": "d.c", ` + uiJSON + `"o": {"_id": 1, "a": 1}, "o2": {"_id": 1}`, Update, "d.c", Apply, false, false},
	{"update $v:1", `"op": "u", "ns": "d.c", ` + uiJSON + `"o": {"$v": 1, "$set": {"a.b": 1}, "$unset": {"c": true}}, "o2": {"_id": 1}`, Update, "d.c", Apply, false, false},
	{"update without $v, of 3.4", `"op": "u", "ns": "d.c", "o": {"$set": {"a": 1}}, "o2": {"_id": 1}`, Update, "d.c", Apply, false, false},
	{"update $v:2", `"op": "u", "ns": "d.c", ` + uiJSON + `"o": {"$v": 2, "diff": {"u": {"a": 1}, "d": {"c": false}, "sarr": {"a": true, "l": 2, "u0": 4}}}, "o2": {"_id": 1}`, Update, "d.c", Apply, false, false},
	{"update with images", `"op": "u", "ns": "d.c", "needsRetryImage": "preImage", "preImageOpTime": {"ts": {"$timestamp": {"t": 1, "i": 1}}, "t": {"$numberLong": "1"}}, "o": {"$v": 2, "diff": {"i": {"a": 1}}}, "o2": {"_id": 1}`, Update, "d.c", Apply, false, false},
	{"update of a bucket", `"op": "u", "ns": "d.system.buckets.ts", ` + uiJSON + `"o": {"$v": 2, "diff": {"scontrol": {"u": {"x": 1}}}}, "o2": {"_id": 1}, "checkExistenceForDiffInsert": true`, Update, "d.system.buckets.ts", Apply, false, false},
	{"delete", `"op": "d", "ns": "d.c", ` + uiJSON + `"o": {"_id": 1}`, Delete, "d.c", Apply, false, false},
	{"delete of 3.4", `"op": "d", "ns": "d.c", "b": true, "o": {"_id": 1}`, Delete, "d.c", Apply, false, false},
	{"delete with the shard key", `"op": "d", "ns": "d.c", ` + uiJSON + `"o": {"sk": 4, "_id": 1}`, Delete, "d.c", Apply, false, false},
	{"no-op", `"op": "n", "ns": "", "o": {"msg": "periodic noop"}`, Noop, "", Ignore, false, false},
	{"new primary", `"op": "n", "ns": "", "o": {"msg": "new primary"}`, Noop, "", Ignore, false, false},
	{"reconfig", `"op": "n", "ns": "", "o": {"msg": "Reconfig set", "version": 2}`, Noop, "", Ignore, false, false},
	{"no-op of a migration", `"op": "n", "ns": "d.c", ` + uiJSON + `"o": {"msg": "Migrating chunk"}, "o2": {"type": "migrateChunkToNewShard", "from": "a", "to": "b"}`, Noop, "", Ignore, false, false},
	{"no-op of shardCollection", `"op": "n", "ns": "d.c", ` + uiJSON + `"o": {"msg": {"shardCollection": "d.c"}}, "o2": {"shardCollection": "d.c", "shardKey": {"a": 1}, "unique": false}`, Noop, "", Ignore, false, false},
	{"no-op of reshardCollection", `"op": "n", "ns": "d.c", ` + uiJSON + `"o": {"msg": {"reshardCollection": "d.c"}}, "o2": {"reshardCollection": "d.c"}`, Noop, "", Ignore, false, false},
	{"no-op of refineCollectionShardKey", `"op": "n", "ns": "d.c", "o": {"msg": "x"}, "o2": {"refineCollectionShardKey": "d.c"}`, Noop, "", Ignore, false, false},
	{"no-op of a pre-image", txnJSON + `"op": "n", "ns": "d.c", "o": {"_id": 1, "a": 1}`, Noop, "", Ignore, false, false},
	{"no-op of a sharding statement", txnJSON + `"op": "n", "ns": "", "stmtId": -1, "o": {"$sessionMigrateInfo": 1}, "o2": {"$incompleteOplogHistory": 1}`, Noop, "", Ignore, false, false},
	{"db", `"op": "db", "ns": "d.", "o": {}`, Database, "", Ignore, false, false},
	{"global index insert", `"op": "xi", "ns": "system.globalIndex.x", "o": {"_id": 1}`, GlobalIndexInsert, "system.globalIndex.x", Ignore, false, true},
	{"global index delete", `"op": "xd", "ns": "system.globalIndex.x", "o": {"_id": 1}`, GlobalIndexDelete, "system.globalIndex.x", Ignore, false, true},

	{"create", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"create": "c", "idIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_"}}`, Create, "d.c", Apply, false, false},
	{"create of 4.0 with ns", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"create": "c", "idIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_", "ns": "d.c"}}`, Create, "d.c", Apply, false, false},
	{"create capped", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"create": "c", "capped": true, "size": 4096, "max": 3}`, Create, "d.c", Apply, false, false},
	{"create view of 3.4", `"op": "c", "ns": "d.$cmd", "o": {"create": "v", "viewOn": "c", "pipeline": []}`, Create, "d.v", Apply, false, false},
	{"create clustered", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"create": "c", "clusteredIndex": {"v": 2, "key": {"_id": 1}, "unique": true, "name": "_id_"}}`, Create, "d.c", Apply, false, false},
	{"create time series", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"create": "system.buckets.ts", "validator": {}, "clusteredIndex": true, "timeseries": {"timeField": "t", "granularity": "seconds", "bucketMaxSpanSeconds": 3600}}`, Create, "d.system.buckets.ts", Apply, false, false},
	{"create temporary", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"create": "tmp.agg_out.1", "temp": true}`, Create, "d.tmp.agg_out.1", Apply, false, false},
	{"create with pre-images", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"create": "c", "changeStreamPreAndPostImages": {"enabled": true}}`, Create, "d.c", Apply, false, false},
	{"create while resharding", `"op": "c", "ns": "config.$cmd", ` + uiJSON + `"o": {"create": "localReshardingOperations.donor"}`, Create, "config.localReshardingOperations.donor", Ignore, true, false},
	{"drop", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"drop": "c"}, "o2": {"numRecords": 4}`, Drop, "d.c", Apply, false, false},
	{"dropDatabase", `"op": "c", "ns": "d.$cmd", "o": {"dropDatabase": 1}`, DropDatabase, "d", Apply, false, false},
	{"renameCollection", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"renameCollection": "d.c", "to": "d.x", "stayTemp": false}`, RenameCollection, "d.c d.x", Apply, true, true},
	{"renameCollection with dropTarget", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"renameCollection": "d.c", "to": "d.x", "stayTemp": false, "dropTarget": ` + uuidJSON + `}, "o2": {"numRecords": 1}`, RenameCollection, "d.c d.x", Apply, true, true},
	{"renameCollection of 3.4", `"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.c", "to": "d.x", "dropTarget": true}`, RenameCollection, "d.c d.x", Apply, true, true},
	{"createIndexes", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"createIndexes": "c", "v": 2, "key": {"a": 1}, "name": "a_1", "unique": true}`, CreateIndexes, "d.c", Apply, false, false},
	{"index of 3.4", `"op": "i", "ns": "d.system.indexes", "o": {"ns": "d.c", "key": {"a": 1}, "name": "a_1"}`, Insert, "d.system.indexes", Refuse, false, false},
	{"startIndexBuild", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"startIndexBuild": "c", "indexBuildUUID": ` + uuidJSON + `, "indexes": [{"v": 2, "key": {"a": 1}, "name": "a_1"}]}`, StartIndexBuild, "d.c", Ignore, false, false},
	{"commitIndexBuild", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"commitIndexBuild": "c", "indexBuildUUID": ` + uuidJSON + `, "indexes": [{"v": 2, "key": {"a": 1}, "name": "a_1"}]}`, CommitIndexBuild, "d.c", Apply, false, false},
	{"abortIndexBuild", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"abortIndexBuild": "c", "indexBuildUUID": ` + uuidJSON + `, "indexes": [{"v": 2, "key": {"a": 1}, "name": "a_1"}], "cause": {"ok": false, "code": 11000}}`, AbortIndexBuild, "d.c", Ignore, false, false},
	{"dropIndexes", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"dropIndexes": "c", "index": "a_1"}, "o2": {"v": 2, "key": {"a": 1}, "name": "a_1"}`, DropIndexes, "d.c", Apply, false, false},
	{"deleteIndexes", `"op": "c", "ns": "d.$cmd", "o": {"deleteIndexes": "c", "index": "a_1"}`, DropIndexes, "d.c", Apply, false, false},
	{"deleteIndex", `"op": "c", "ns": "d.$cmd", "o": {"deleteIndex": "c", "index": "a_1"}`, DropIndexes, "d.c", Apply, false, false},
	{"dropIndex", `"op": "c", "ns": "d.$cmd", "o": {"dropIndex": "c", "index": "*"}`, DropIndexes, "d.c", Apply, false, false},
	{"collMod", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"collMod": "c", "validator": {"a": 1}, "validationLevel": "strict"}, "o2": {"collectionOptions_old": {}}`, CollMod, "d.c", Apply, false, false},
	{"collMod of an index", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"collMod": "c", "index": {"name": "a_1", "expireAfterSeconds": {"$numberLong": "5"}}}, "o2": {"indexOptions_old": {"expireAfterSeconds": 9}}`, CollMod, "d.c", Apply, false, false},
	{"collMod of an upgrade", `"op": "c", "ns": "admin.$cmd", ` + uiJSON + `"o": {"collMod": "system.version"}`, CollMod, "admin.system.version", Apply, false, false},
	{"convertToCapped", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"convertToCapped": "c", "size": 4096}`, ConvertToCapped, "d.c", Apply, false, false},
	{"emptycapped", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"emptycapped": "c"}`, EmptyCapped, "d.c", Apply, false, false},
	{"importCollection", `"op": "c", "ns": "d.$cmd", "o": {"importCollection": "d.c", "importUUID": ` + uuidJSON + `, "numRecords": 1, "dataSize": 1, "catalogEntry": {}, "storageMetadata": {}, "dryRun": false}`, ImportCollection, "d.c", Refuse, true, true},
	{"dbCheck", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"dbCheck": "d.c", "type": "collection"}`, DBCheck, "", Ignore, false, false},
	{"modifyCollectionShardingIndexCatalog", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"modifyCollectionShardingIndexCatalog": "d.c", "operation": "insert"}`, ModifyShardingIndexes, "d.c", Ignore, false, true},
	{"createGlobalIndex", `"op": "c", "ns": "system.$cmd", ` + uiJSON + `"o": {"createGlobalIndex": "x"}`, CreateGlobalIndex, "system.x", Ignore, false, true},
	{"dropGlobalIndex", `"op": "c", "ns": "system.$cmd", ` + uiJSON + `"o": {"dropGlobalIndex": "x"}`, DropGlobalIndex, "system.x", Ignore, false, true},
	{"truncateRange", `"op": "c", "ns": "d.$cmd", ` + uiJSON + `"o": {"truncateRange": "d.c", "minRecordId": 1, "maxRecordId": 3, "bytesDeleted": 1, "docsDeleted": 1}`, TruncateRange, "d.c", Refuse, false, true},

	{"applyOps", `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "o": {"_id": 1}}, {"op": "d", "ns": "d.x", "o": {"_id": 1}}, {"op": "i", "ns": "d.c", "o": {"_id": 2}}]}`, ApplyOps, "d.c d.x", Apply, false, false},
	{"nested applyOps", `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "o": {"_id": 1}}]}}, {"op": "c", "ns": "d.$cmd", "o": {"create": "y"}}]}`, ApplyOps, "d.c d.y", Apply, false, false},
	{"applyOps with a rename", `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.c", "to": "d.x"}}]}`, ApplyOps, "d.c d.x", Apply, false, true},
	{"grouped inserts", txnJSON + `"op": "c", "ns": "admin.$cmd", "multiOpType": 1, ` + nullPrev + `"o": {"applyOps": [{"op": "i", "ns": "d.c", ` + uiJSON + `"o": {"_id": 1}, "stmtId": 0}, {"op": "i", "ns": "d.c", ` + uiJSON + `"o": {"_id": 2}, "stmtId": 1}]}`, GroupedInserts, "d.c", Apply, false, false},
	{"vectored inserts outside of a session", `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", ` + uiJSON + `"o": {"_id": 1}}, {"op": "i", "ns": "d.c", ` + uiJSON + `"o": {"_id": 2}}]}`, ApplyOps, "d.c", Apply, false, false},
	{"transaction of 4.0", txnJSON + `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "o": {"_id": 1}}]}`, TxnWhole, "d.c", Apply, false, false},
	{"transaction", txnJSON + nullPrev + `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "o": {"_id": 1}}], "count": {"$numberLong": "1"}}`, TxnWhole, "d.c", Apply, false, false},
	{"transaction's first part", txnJSON + nullPrev + `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "o": {"_id": 1}}], "partialTxn": true}`, TxnPartial, "d.c", Apply, false, false},
	{"prepared transaction", txnJSON + nullPrev + `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "i", "ns": "d.c", "o": {"_id": 1}}], "prepare": true}`, TxnPrepare, "d.c", Apply, false, false},
	{"empty prepared transaction", txnJSON + nullPrev + `"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [], "prepare": true}`, TxnPrepare, "", Apply, false, false},
	{"commitTransaction", txnJSON + `"op": "c", "ns": "admin.$cmd", "o": {"commitTransaction": 1, "commitTimestamp": {"$timestamp": {"t": 99, "i": 1}}}`, TxnCommit, "", Apply, false, false},
	{"abortTransaction", txnJSON + `"op": "c", "ns": "admin.$cmd", "o": {"abortTransaction": 1}`, TxnAbort, "", Apply, false, false},

	{"user", `"op": "i", "ns": "admin.system.users", ` + uiJSON + `"o": {"_id": "d.u", "user": "u", "db": "d"}`, Insert, "admin.system.users", Apply, false, false},
	{"role", `"op": "u", "ns": "admin.system.roles", "o": {"_id": "d.r"}, "o2": {"_id": "d.r"}`, Update, "admin.system.roles", Apply, false, false},
	{"compatibility version", `"op": "u", "ns": "admin.system.version", "o": {"_id": "featureCompatibilityVersion", "version": "8.0"}, "o2": {"_id": "featureCompatibilityVersion"}`, Update, "admin.system.version", Apply, true, false},
	{"view", `"op": "i", "ns": "d.system.views", ` + uiJSON + `"o": {"_id": "d.v", "viewOn": "c", "pipeline": []}`, Insert, "d.system.views", Apply, false, false},
	{"session record", `"op": "u", "ns": "config.transactions", "o": {"_id": 1}, "o2": {"_id": 1}`, Update, "config.transactions", Ignore, false, false},
	{"sharding cache", `"op": "i", "ns": "config.cache.chunks.d.c", "o": {"_id": 1}`, Insert, "config.cache.chunks.d.c", Ignore, false, false},
	{"sharding metadata", `"op": "i", "ns": "config.chunks", "o": {"_id": 1}`, Insert, "config.chunks", Apply, false, false},
}

func TestKinds(t *testing.T) {
	seen := map[Kind]bool{}
	for _, tc := range kindCases {
		t.Run(tc.name, func(t *testing.T) {
			e, err := Parse(stamped(tc.fields))
			if err != nil {
				t.Fatal(err)
			}
			seen[e.Kind] = true
			touches, err := e.Touches()
			if err != nil {
				t.Fatal(err)
			}
			class, why := e.Class()
			if e.Kind != tc.kind || strings.Join(touches, " ") != tc.touches || class != tc.class {
				t.Errorf("kind %v touches %v class %v (%s)", e.Kind, touches, class, why)
			}
			if (class != Apply) != (why != "") {
				t.Errorf("class %v because %q", class, why)
			}
			if got := e.OriginalAborts() != ""; got != tc.aborts {
				t.Errorf("the original aborts: %q", e.OriginalAborts())
			}
			if got := e.OriginalReplays() != ""; got != tc.unreplayable {
				t.Errorf("the original cannot replay: %q", e.OriginalReplays())
			}
			if e.OpTime != (OpTime{TS: bson.NewTimestamp(100, 7), Term: 3}) {
				t.Errorf("optime %v", e.OpTime)
			}
			out, keep, err := (*Rules)(nil).Map(e)
			if err != nil || !keep || string(out.Raw) != string(e.Raw) {
				t.Errorf("no rules: %v %v", keep, err)
			}
		})
	}
	for k := Unknown + 1; k < kinds; k++ {
		if !seen[k] {
			t.Errorf("no case of kind %v", k)
		}
	}
}

func TestUnknown(t *testing.T) {
	for name, fields := range map[string]string{
		"op":              `"op": "zz", "ns": "d.c", "o": {"_id": 1}`,
		"container op":    `"op": "ci", "ns": "d.c", "o": {"_id": 1}`,
		"command":         `"op": "c", "ns": "d.$cmd", "o": {"doMagic": "c"}`,
		"empty command":   `"op": "c", "ns": "d.$cmd", "o": {}`,
		"applyOps 1":      `"op": "c", "ns": "d.$cmd", "o": {"applyOps": 1}`,
		"newer than this": `"op": "c", "ns": "d.$cmd", "o": {"upgradeDowngradeViewlessTimeseries": "c"}`,
	} {
		_, err := Parse(stamped(fields))
		var ue *UnknownError
		if !errors.As(err, &ue) || ue.OpTime.TS != bson.NewTimestamp(100, 7) || !strings.Contains(err.Error(), "100:7") {
			t.Errorf("%s: %v", name, err)
		}
	}
	inner := stamped(`"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [{"op": "zz", "ns": "d.c", "o": {}}]}`)
	e, err := Parse(inner)
	if err != nil {
		t.Fatal(err)
	}
	var ue *UnknownError
	if _, err := e.Ops(); !errors.As(err, &ue) || ue.Name != "zz" {
		t.Errorf("inside applyOps: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	for name, fields := range map[string]string{
		"no o":              `"op": "i", "ns": "d.c"`,
		"no ns":             `"op": "i", "o": {"_id": 1}`,
		"no _id":            `"op": "i", "ns": "d.c", "o": {"a": 1}`,
		"no o2":             `"op": "u", "ns": "d.c", "o": {"$v": 2}`,
		"ns is no string":   `"op": "i", "ns": 1, "o": {"_id": 1}`,
		"create of nothing": `"op": "c", "ns": "d.$cmd", "o": {"create": 1}`,
		"rename to nothing": `"op": "c", "ns": "d.$cmd", "o": {"renameCollection": "d.c"}`,
		"ui is no UUID":     `"op": "i", "ns": "d.c", "ui": 4, "o": {"_id": 1}`,
	} {
		_, err := Parse(stamped(fields))
		var fe *FormatError
		if !errors.As(err, &fe) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var fe *FormatError
	if _, err := Parse(extjson.MustParse(`{"op": "i", "ns": "d.c", "o": {"_id": 1}}`)); !errors.As(err, &fe) {
		t.Errorf("no ts: %v", err)
	}
}

// TestRecorded reads what a real MongoDB wrote.
func TestRecorded(t *testing.T) {
	all, err := os.ReadFile("testdata/kinds.bson")
	if err != nil {
		t.Fatal(err)
	}
	var a Assembler
	got := map[Kind]int{}
	n, units := 0, 0
	for len(all) > 0 {
		size := int(all[0]) | int(all[1])<<8 | int(all[2])<<16
		e, err := Parse(bson.Raw(all[:size]))
		if err != nil {
			t.Fatal(err)
		}
		us, err := a.Add(e)
		if err != nil {
			t.Fatal(err)
		}
		got[e.Kind]++
		n++
		units += len(us)
		all = all[size:]
	}
	for k, want := range map[Kind]int{Insert: 19, Update: 13, Delete: 3, Create: 6, Drop: 6, DropDatabase: 3, RenameCollection: 3, CreateIndexes: 2, DropIndexes: 1, CollMod: 1, TxnWhole: 1} {
		if k.IsCommand() && got[k] != want {
			t.Errorf("%d entries of kind %v, want %d", got[k], k, want)
		}
	}
	if n != units || len(a.Unfinished()) != 0 {
		t.Errorf("%d entries, %d units", n, units)
	}
}

func FuzzParse(f *testing.F) {
	for _, tc := range kindCases {
		f.Add([]byte(stamped(tc.fields)))
	}
	from, err := ParseRename("d.*", "e.*")
	if err != nil {
		f.Fatal(err)
	}
	rules := &Rules{Rename: []Rename{from}}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Parse(bson.Raw(data))
		if err != nil {
			return
		}
		e.Class()
		e.OriginalAborts()
		e.OriginalReplays()
		e.Place()
		if _, err := e.Touches(); err != nil {
			return
		}
		out, keep, err := rules.Map(e)
		if err != nil || !keep {
			return
		}
		again, err := Parse(out.Raw)
		if err != nil {
			t.Fatalf("the mapped entry cannot be read: %v", err)
		}
		if again.Kind != e.Kind && !(e.Kind == RenameCollection && again.Kind == Drop) {
			t.Fatalf("%v became %v", e.Kind, again.Kind)
		}
		var a Assembler
		_, _ = a.Add(e) // must not panic; chains begin anywhere
	})
}
