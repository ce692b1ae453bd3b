package entry

import "strings"

// OriginalAborts says why the original mongodump --oplog gives up when it meets e, ""
// if it does not. The texts are the original's.
func (e *Entry) OriginalAborts() string {
	switch {
	case e.NS == "admin.system.version":
		return "cannot dump with oplog if admin.system.version is modified"
	case e.Kind == RenameCollection:
		return "cannot dump with oplog while renames occur"
	case e.Kind == ImportCollection:
		return "cannot dump with oplog while importCollection occurs"
	case e.Kind == Create && e.DB == "config" && resharding[e.Coll]:
		return "cannot dump with oplog while resharding"
	}
	return ""
}

// resharding are the collections of config whose creation tells that a reshardCollection runs.
var resharding = map[string]bool{"reshardingOperations": true, "localReshardingOperations.donor": true, "localReshardingOperations.recipient": true}

// OriginalReplays says why the original mongorestore --oplogReplay could not replay e,
// "" if it can.
func (e *Entry) OriginalReplays() string {
	switch e.Kind {
	case ImportCollection, ModifyShardingIndexes, CreateGlobalIndex, DropGlobalIndex, TruncateRange:
		return "mongorestore does not know the oplog command " + e.Kind.String()
	case GlobalIndexInsert, GlobalIndexDelete:
		return "mongorestore does not know the op " + e.Kind.String()
	case RenameCollection:
		return "mongodump refuses dumps with renames, as mongorestore replays them by name over data that may have been renamed already"
	}
	if e.Kind.HasOps() {
		ops, err := e.Ops()
		for i := range ops {
			if why := ops[i].OriginalReplays(); why != "" {
				return why
			}
		}
		if err != nil {
			return err.Error()
		}
	}
	return ""
}

// IsTemporary reports whether a collection is one that the server makes for a while to
// rename it into its place: of $out, mapReduce, convertToCapped, a rename between
// databases or resharding.
func IsTemporary(coll string) bool {
	coll = strings.TrimPrefix(coll, bucketsPrefix)
	if strings.HasPrefix(coll, "system.resharding.") {
		return true
	}
	rest, ok := strings.CutPrefix(coll, "tmp")
	if !ok {
		return false
	}
	tag, rest, ok := strings.Cut(rest, ".")
	if !ok || len(tag) > 8 {
		return false
	}
	for _, why := range []string{"agg_out.", "mr.", "convertToCapped.", "renameCollection"} {
		if strings.HasPrefix(rest, why) {
			return true
		}
	}
	return false
}
