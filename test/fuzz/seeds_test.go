package fuzz

import (
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/command"
)

// written are commands with much in them; the table adds the others.
const written = `
{"insert": "c", "documents": [{"_id": 9, "a": 1}, {"a": [1, {"b": 2}]}], "ordered": false, "writeConcern": {"w": 1, "j": true}}
{"insert": "c", "documents": [{"a": 5}], "lsid": {"id": {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAA==", "subType": "04"}}}, "txnNumber": {"$numberLong": "1"}, "stmtIds": [1]}
{"find": "c", "filter": {"a": {"$gte": 1, "$lt": 5}, "$or": [{"b": {"$in": [1, "x"]}}, {"t": {"$elemMatch": {"$gt": 1}}}], "s": {"$regex": "^a", "$options": "i"}}, "sort": {"a": 1, "b": -1}, "projection": {"a": 1, "t": {"$slice": 2}}, "skip": 1, "limit": 5, "batchSize": 2, "collation": {"locale": "en", "strength": 2}}
{"find": "c", "filter": {"$expr": {"$gt": ["$a", {"$add": [1, {"$ifNull": ["$b", 0]}]}]}, "x": {"$type": ["int", 2], "$exists": true, "$not": {"$size": 2}, "$mod": [3, 1], "$all": [1]}}, "hint": {"a": 1}, "min": {"a": 1}, "max": {"a": 5}, "returnKey": false, "showRecordId": true, "singleBatch": true, "let": {"v": 1}, "comment": "x", "maxTimeMS": 1000}
{"find": "capped", "tailable": true, "awaitData": true, "batchSize": 1, "noCursorTimeout": true, "allowPartialResults": false, "readConcern": {"level": "majority"}}
{"find": "c", "filter": {"g": {"$bitsAllSet": [0, 1]}, "$nor": [{"a": 1}], "$and": [{"b": null}], "$comment": "c", "$jsonSchema": {"required": ["a"], "properties": {"a": {"bsonType": "int", "minimum": 1}}}}, "projection": {"t": {"$elemMatch": {"$gt": 1}}, "x": {"$concat": ["a", "$s"]}, "_id": 0}}
{"getMore": {"$numberLong": "1"}, "collection": "c", "batchSize": 2, "maxTimeMS": 1}
{"killCursors": "c", "cursors": [{"$numberLong": "1"}]}
{"update": "c", "updates": [{"q": {"a": 1}, "u": {"$set": {"b.c": 1, "t.$[e]": 2}, "$unset": {"x": ""}, "$inc": {"n": 1}, "$mul": {"m": 2.5}, "$min": {"lo": 1}, "$max": {"hi": 1}, "$rename": {"r": "rr"}, "$currentDate": {"d": {"$type": "timestamp"}}}, "arrayFilters": [{"e": {"$gt": 1}}], "multi": true, "upsert": true}], "let": {"v": 1}}
{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$push": {"t": {"$each": [3, 1], "$sort": 1, "$slice": -3, "$position": 0}}, "$addToSet": {"s": {"$each": [1, 2]}}, "$pop": {"p": 1}, "$bit": {"b": {"and": 5, "or": {"$numberLong": "1"}}}, "$setOnInsert": {"z": 1}}}, {"q": {"t": 1}, "u": {"$pull": {"t": {"$gt": 1}}, "$pullAll": {"s": [1]}, "$set": {"a.$": 1}}}]}
{"update": "c", "updates": [{"q": {"_id": 2}, "u": [{"$set": {"a": {"$add": ["$a", 1]}}}, {"$unset": "x"}, {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"y": 1}]}}], "c": {"k": 1}}, {"q": {"_id": 3}, "u": {"whole": "new"}, "upsert": true, "hint": "_id_", "collation": {"locale": "simple"}, "sort": {"a": 1}}]}
{"delete": "c", "deletes": [{"q": {"a": {"$gt": 100}}, "limit": 0, "hint": "a_1", "collation": {"locale": "fr"}}, {"q": {}, "limit": 1}], "ordered": true}
{"findAndModify": "c", "query": {"a": 1}, "sort": {"a": -1}, "update": {"$inc": {"n": 1}}, "new": true, "fields": {"a": 1}, "upsert": true, "arrayFilters": []}
{"findAndModify": "c", "query": {"a": 7}, "remove": true}
{"bulkWrite": 1, "ops": [{"insert": 0, "document": {"a": 1}}, {"update": 0, "filter": {"a": 1}, "updateMods": {"$set": {"b": 1}}, "multi": true}, {"delete": 1, "filter": {"a": 2}, "multi": false}], "nsInfo": [{"ns": "test.c"}, {"ns": "test.d"}], "ordered": false, "errorsOnly": true, "cursor": {"batchSize": 1}, "$db": "admin"}
{"count": "c", "query": {"a": 1}, "skip": 1, "limit": 2, "hint": {"a": 1}}
{"distinct": "c", "key": "t.b", "query": {"a": {"$gt": 0}}, "collation": {"locale": "en"}}
{"aggregate": "c", "pipeline": [{"$match": {"a": {"$gt": 0}}}, {"$addFields": {"z": {"$cond": [{"$eq": ["$a", 1]}, "y", {"$toString": "$a"}]}}}, {"$group": {"_id": {"k": "$z"}, "n": {"$sum": 1}, "m": {"$avg": "$a"}, "l": {"$push": "$$ROOT"}, "f": {"$first": "$a"}, "x": {"$max": "$a"}}}, {"$sort": {"n": -1}}, {"$skip": 0}, {"$limit": 10}], "cursor": {"batchSize": 1}, "allowDiskUse": true}
{"aggregate": "c", "pipeline": [{"$lookup": {"from": "d", "let": {"v": "$a"}, "pipeline": [{"$match": {"$expr": {"$eq": ["$$v", "$a"]}}}], "localField": "a", "foreignField": "a", "as": "j"}}, {"$unwind": {"path": "$j", "includeArrayIndex": "i", "preserveNullAndEmptyArrays": true}}, {"$facet": {"x": [{"$count": "n"}], "y": [{"$sortByCount": "$a"}]}}, {"$project": {"x": {"$arrayElemAt": ["$x", 0]}, "y": {"$map": {"input": "$y", "as": "e", "in": "$$e._id"}}}}], "cursor": {}}
{"aggregate": "c", "pipeline": [{"$unionWith": {"coll": "d", "pipeline": [{"$set": {"q": 1}}]}}, {"$replaceRoot": {"newRoot": {"$mergeObjects": [{"a": 0}, "$$ROOT"]}}}, {"$sample": {"size": 2}}, {"$project": {"d": {"$dateToString": {"date": "$$NOW", "format": "%Y"}}, "r": {"$reduce": {"input": [1, 2], "initialValue": 0, "in": {"$add": ["$$value", "$$this"]}}}, "f": {"$filter": {"input": "$t", "cond": {"$gt": ["$$this", 1]}}}, "c": {"$convert": {"input": "$s", "to": "int", "onError": null}}, "s": {"$substrCP": ["$s", 0, 1]}, "o": {"$objectToArray": "$$ROOT"}, "sp": {"$split": ["a b", " "]}, "tr": {"$dateTrunc": {"date": "$$NOW", "unit": "week"}}}}], "cursor": {}}
{"aggregate": "c", "pipeline": [{"$merge": {"into": "m", "on": "_id", "whenMatched": "merge", "whenNotMatched": "insert"}}], "cursor": {}}
{"aggregate": "c", "pipeline": [{"$out": {"db": "test", "coll": "o"}}], "cursor": {}}
{"aggregate": "c", "pipeline": [{"$collStats": {"count": {}, "storageStats": {"scale": 1024}, "latencyStats": {"histograms": true}}}], "cursor": {}}
{"aggregate": "c", "pipeline": [{"$indexStats": {}}], "cursor": {}, "explain": false}
{"aggregate": 1, "pipeline": [{"$currentOp": {"allUsers": true, "idleConnections": true}}], "cursor": {}, "$db": "admin"}
{"aggregate": 1, "pipeline": [{"$documents": [{"a": 1}]}, {"$bucket": {"groupBy": "$a", "boundaries": [0, 5], "default": "x"}}], "cursor": {}}
{"explain": {"find": "c", "filter": {"a": 1, "b": {"$gt": 2}}, "sort": {"b": 1}}, "verbosity": "allPlansExecution"}
{"explain": {"aggregate": "c", "pipeline": [{"$match": {"a": 1}}, {"$group": {"_id": "$b"}}], "cursor": {}}, "verbosity": "executionStats"}
{"explain": {"update": "c", "updates": [{"q": {"a": 1}, "u": {"$set": {"b": 1}}}]}, "verbosity": "queryPlanner"}
{"create": "new", "validator": {"a": {"$type": "int"}}, "validationLevel": "strict", "validationAction": "error", "collation": {"locale": "en"}}
{"create": "capped2", "capped": true, "size": 4096, "max": 10}
{"create": "v", "viewOn": "c", "pipeline": [{"$match": {"a": 1}}]}
{"create": "cl", "clusteredIndex": {"key": {"_id": 1}, "unique": true}, "expireAfterSeconds": 10}
{"createIndexes": "c", "indexes": [{"key": {"a": 1, "b.c": -1}, "name": "ab", "unique": true, "sparse": true}, {"key": {"e": 1}, "name": "ttl", "expireAfterSeconds": 10}, {"key": {"p": 1}, "name": "p", "partialFilterExpression": {"p": {"$gt": 1}}, "hidden": true, "collation": {"locale": "de"}}], "commitQuorum": "votingMembers"}
{"dropIndexes": "c", "index": ["a_1", "ab"]}
{"listIndexes": "c", "cursor": {"batchSize": 1}}
{"listCollections": 1, "filter": {"name": "c", "type": "collection"}, "nameOnly": true, "authorizedCollections": true, "cursor": {"batchSize": 1}}
{"listDatabases": 1, "filter": {"name": "test"}, "nameOnly": true, "$db": "admin"}
{"collMod": "c", "index": {"keyPattern": {"a": 1}, "hidden": true, "expireAfterSeconds": 5}, "validator": {"a": 1}, "validationAction": "warn"}
{"renameCollection": "test.x", "to": "test.y", "dropTarget": true, "$db": "admin"}
{"convertToCapped": "d", "size": 8192}
{"applyOps": [{"op": "i", "ns": "test.c", "o": {"_id": 50, "a": 1}}, {"op": "u", "ns": "test.c", "o2": {"_id": 50}, "o": {"$v": 2, "diff": {"u": {"a": 2}, "i": {"z": 1}, "d": {"q": false}, "sarr": {"a": true, "u0": 1, "l": 2}}}}, {"op": "d", "ns": "test.c", "o": {"_id": 50}}, {"op": "n", "ns": "", "o": {"msg": "x"}}], "$db": "admin"}
{"applyOps": [{"op": "c", "ns": "test.$cmd", "o": {"create": "ap", "idIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_"}}}, {"op": "c", "ns": "test.$cmd", "o": {"applyOps": [{"op": "i", "ns": "test.ap", "o": {"_id": 1}}]}}, {"op": "c", "ns": "test.$cmd", "o": {"drop": "ap"}}, {"op": "u", "ns": "test.c", "o2": {"_id": 1}, "o": {"$v": 1, "$set": {"a": 1}}}], "$db": "admin"}
{"collStats": "c", "scale": 1024}
{"dbStats": 1, "scale": 1, "freeStorage": 1}
{"dataSize": "test.c", "keyPattern": {"a": 1}, "min": {"a": 0}, "max": {"a": 9}, "estimate": false}
{"validate": "c", "full": true}
{"dbHash": 1, "collections": ["c"]}
{"profile": 0, "slowms": 100, "sampleRate": 1.0, "filter": {"op": "query"}}
{"hello": 1, "helloOk": true, "client": {"driver": {"name": "x", "version": "1"}, "os": {"type": "Linux"}}, "compression": ["zstd"], "$db": "admin"}
{"getParameter": {"showDetails": true, "allParameters": true}, "$db": "admin"}
{"setParameter": 1, "ttlMonitorSleepSecs": 60, "$db": "admin"}
{"serverStatus": 1, "repl": 0, "metrics": {"commands": false}, "$db": "admin"}
{"currentOp": 1, "$all": true, "$ownOps": false, "op": "query", "$db": "admin"}
{"killOp": 1, "op": 12345678, "$db": "admin"}
{"startSession": 1}
{"endSessions": [{"id": {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAA==", "subType": "04"}}}]}
{"killAllSessionsByPattern": [{"lsid": {"id": {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAA==", "subType": "04"}}}}]}
{"replSetReconfig": {"_id": "rs0", "version": 2, "members": [{"_id": 0, "host": "localhost:27017", "priority": 1, "tags": {"dc": "a"}}], "settings": {"getLastErrorModes": {"m": {"dc": 1}}}}, "force": true, "$db": "admin"}
{"replSetInitiate": {"_id": "rs0", "members": [{"_id": 0, "host": "localhost:27017"}]}, "$db": "admin"}
{"replSetResizeOplog": 1, "size": 990, "minRetentionHours": 1.5, "$db": "admin"}
{"find": "oplog.rs", "filter": {"ts": {"$gte": {"$timestamp": {"t": 1, "i": 1}}}}, "tailable": true, "batchSize": 3, "$db": "local"}
`

// seeds are the written commands and, for each row of the table, one with each of its
// arguments.
func seeds() (list []bson.Raw) {
	for _, line := range strings.Split(strings.TrimSpace(written), "\n") {
		list = append(list, extjson.MustParse(line))
	}
	for _, c := range command.NewTable(command.All()...).Rows() {
		b := bson.NewBuilder(nil).Str(c.Name, "c")
		for _, a := range c.Args {
			argument(b, a)
		}
		if c.Has(command.AdminOnly) {
			b.Str("$db", "admin")
		}
		list = append(list, b.Finish(), bson.D(c.Name, 1))
	}
	return list
}

// argument adds a value of the first type that an argument takes.
func argument(b *bson.Builder, a command.Arg) {
	for _, c := range []struct {
		t bson.Type
		v any
	}{
		{bson.TypeDocument, bson.D("a", 1)}, {bson.TypeArray, bson.A(bson.D("a", 1))}, {bson.TypeString, "c"}, {bson.TypeBool, true}, {bson.TypeInt32, 1},
		{bson.TypeInt64, int64(1)}, {bson.TypeDouble, 1.5}, {bson.TypeBinary, bson.UUID{}}, {bson.TypeTimestamp, bson.Timestamp(1)}, {bson.TypeDate, bson.DateTime(1)},
	} {
		if a.Types.Allows(c.t) {
			b.Any(a.Name, c.v)
			return
		}
	}
}
