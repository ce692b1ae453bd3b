package entry

import "github.com/cairndb/cairn/internal/bson"

// Kind is what an entry is. Every command has its own.
type Kind uint8

// The kinds of entries that MongoDB 3.6 to 8.0 and Cairn write.
const (
	Unknown           Kind = iota // never of a parsed entry: Parse gives an *UnknownError instead
	Insert                        // i
	Update                        // u: a replacement, $v:1 modifiers or a $v:2 diff
	Delete                        // d
	Noop                          // n: says something, changes nothing
	Database                      // db: servers before 3.0 announced a database with it; changes nothing
	GlobalIndexInsert             // xi: a key of a global index
	GlobalIndexDelete             // xd

	Create
	Drop
	DropDatabase
	RenameCollection
	CreateIndexes
	StartIndexBuild
	CommitIndexBuild
	AbortIndexBuild
	DropIndexes // also under its old names dropIndex, deleteIndex, deleteIndexes
	CollMod
	ConvertToCapped
	EmptyCapped
	ImportCollection
	DBCheck
	ModifyShardingIndexes // modifyCollectionShardingIndexCatalog
	CreateGlobalIndex
	DropGlobalIndex
	TruncateRange

	ApplyOps       // operations that were applied together, outside of a transaction
	GroupedInserts // applyOps with multiOpType 1: the inserts of one retryable command

	TxnWhole   // applyOps that is a whole transaction, or the last part of one in several entries
	TxnPartial // applyOps with partialTxn: one more part follows
	TxnPrepare // applyOps with prepare: the last part; takes effect at its TxnCommit
	TxnCommit  // commitTransaction of a prepared transaction
	TxnAbort   // abortTransaction
	kinds
)

// kindNames are the names in the order of the constants.
var kindNames = [kinds]string{"unknown", "i", "u", "d", "n", "db", "xi", "xd",
	"create", "drop", "dropDatabase", "renameCollection", "createIndexes", "startIndexBuild", "commitIndexBuild", "abortIndexBuild",
	"dropIndexes", "collMod", "convertToCapped", "emptycapped", "importCollection", "dbCheck", "modifyCollectionShardingIndexCatalog",
	"createGlobalIndex", "dropGlobalIndex", "truncateRange",
	"applyOps", "applyOps (grouped inserts)", "applyOps (transaction)", "applyOps (partialTxn)", "applyOps (prepare)", "commitTransaction", "abortTransaction"}

// commands are the commands of c entries; applyOps is told apart by its fields.
var commands = map[string]Kind{
	"create": Create, "drop": Drop, "dropDatabase": DropDatabase, "renameCollection": RenameCollection,
	"createIndexes": CreateIndexes, "startIndexBuild": StartIndexBuild, "commitIndexBuild": CommitIndexBuild, "abortIndexBuild": AbortIndexBuild,
	"dropIndexes": DropIndexes, "dropIndex": DropIndexes, "deleteIndex": DropIndexes, "deleteIndexes": DropIndexes,
	"collMod": CollMod, "convertToCapped": ConvertToCapped, "emptycapped": EmptyCapped, "importCollection": ImportCollection,
	"dbCheck": DBCheck, "modifyCollectionShardingIndexCatalog": ModifyShardingIndexes,
	"createGlobalIndex": CreateGlobalIndex, "dropGlobalIndex": DropGlobalIndex, "truncateRange": TruncateRange,
	"applyOps": ApplyOps, "commitTransaction": TxnCommit, "abortTransaction": TxnAbort,
}

// String is the op, or the command's name.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return kindNames[Unknown]
}

// IsCommand reports whether k is a c entry.
func (k Kind) IsCommand() bool { return k >= Create && k < kinds }

// IsCRUD reports whether k writes one document.
func (k Kind) IsCRUD() bool { return k == Insert || k == Update || k == Delete }

// IsTxn reports whether k is an entry of a multi-document transaction.
func (k Kind) IsTxn() bool { return k >= TxnWhole && k < kinds }

// HasOps reports whether k is a list of operations, see Entry.Ops.
func (k Kind) HasOps() bool { return k >= ApplyOps && k <= TxnPrepare }

// kindOf tells the kind from an entry's op and o. The name is that of an unknown one.
func kindOf(e *Entry, op string) (k Kind, name string) {
	switch op {
	case "i":
		return Insert, ""
	case "u":
		return Update, ""
	case "d":
		return Delete, ""
	case "n":
		return Noop, ""
	case "db":
		return Database, ""
	case "xi":
		return GlobalIndexInsert, ""
	case "xd":
		return GlobalIndexDelete, ""
	case "c":
		name, first := e.O.First()
		k := commands[name]
		if k == ApplyOps {
			k = applyOpsKind(e, first)
		}
		return k, name
	}
	return Unknown, op
}

func applyOpsKind(e *Entry, list bson.Value) Kind {
	switch {
	case list.Type != bson.TypeArray:
		return Unknown
	case e.MultiOpType == 1:
		return GroupedInserts
	case e.LSID == nil || !e.hasTxnNumber:
		return ApplyOps
	}
	it := e.O.Iter()
	k := TxnWhole
	for it.Next() {
		switch it.Key() {
		case "partialTxn":
			if it.Value().Truthy() {
				k = TxnPartial
			}
		case "prepare":
			if it.Value().Truthy() {
				return TxnPrepare
			}
		}
	}
	return k
}

// Class is what a replay does with an entry.
type Class uint8

// What a replay does with an entry.
const (
	Apply  Class = iota // its effect is made
	Ignore              // it has no effect that a restored server should have; Why says which
	Refuse              // its effect cannot be made from the entry: the replay ends with Why
)

// Class says whether e can be replayed, and why not.
func (e *Entry) Class() (c Class, why string) {
	switch e.Kind {
	case Noop, Database:
		return Ignore, "no-op"
	case StartIndexBuild, AbortIndexBuild:
		return Ignore, "index build under way: it is built at its commitIndexBuild"
	case DBCheck:
		return Ignore, "dbCheck: compares members, changes nothing"
	case ModifyShardingIndexes, CreateGlobalIndex, DropGlobalIndex, GlobalIndexInsert, GlobalIndexDelete:
		return Ignore, "sharding metadata of the source cluster"
	case ImportCollection:
		return Refuse, "the imported collection's data came in files, not in the oplog"
	case TruncateRange:
		return Refuse, "it names records by the source's record ids"
	}
	if e.Coll == "system.indexes" {
		return Refuse, "an index as servers before 3.6 wrote it: build it with createIndexes"
	}
	if why := internalNamespace(e.DB, e.Coll); why != "" && !e.Kind.HasOps() {
		return Ignore, why
	}
	return Apply, ""
}

// keptConfig are the collections of config that a backup holds and a replay writes, as
// the original's.
var keptConfig = map[string]bool{"chunks": true, "collections": true, "databases": true, "settings": true, "shards": true, "tags": true, "version": true}

// internalNamespace says why nothing is replayed into a namespace, "" if it is.
func internalNamespace(db, coll string) string {
	switch {
	case db == "local":
		return "local: not replicated"
	case db == "config" && !keptConfig[coll]:
		return "config: the source server's own bookkeeping"
	case coll == "system.profile":
		return "system.profile: not replicated"
	}
	return ""
}
