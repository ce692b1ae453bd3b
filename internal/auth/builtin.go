package auth

import (
	"slices"
	"sort"
	"strings"
)

const rootRole = "root"

// The built-in roles and their privileges, as MongoDB 8.0 documents them. They are in no
// collection: every database has those of databaseRoles, admin the rest too.

func words(s string) []string { return strings.Fields(s) }

// Groups of actions that several roles share.
var (
	readActions      = words("changeStream collStats dbHash dbStats find killCursors listCollections listIndexes listSearchIndexes planCacheRead")
	readWriteActions = sorted(readActions, words(`cleanupStructuredEncryptionData compactStructuredEncryptionData convertToCapped createCollection createIndex
		createSearchIndexes dropCollection dropIndex dropSearchIndex insert remove renameCollectionSameDB update updateSearchIndex`))
	dbAdminActions = words(`bypassDocumentValidation collMod collStats compact convertToCapped createCollection createIndex createSearchIndexes dbStats
		dropCollection dropDatabase dropIndex dropSearchIndex enableProfiler listCollections listIndexes listSearchIndexes planCacheIndexFilter
		planCacheRead planCacheWrite reIndex renameCollectionSameDB updateSearchIndex validate`)
	profileActions   = sorted(readActions, words("convertToCapped createCollection dropCollection"))
	userAdminActions = words(`changeCustomData changePassword createRole createUser dropRole dropUser grantRole revokeRole setAuthenticationRestriction
		viewRole viewUser`)
	enableShardingActions = words("analyzeShardKey enableSharding moveCollection refineCollectionShardKey reshardCollection unshardCollection")
	// configRead is read without change streams, as the cluster roles have it.
	configRead     = without1(readActions, "changeStream")
	restoreActions = words("bypassDocumentValidation collMod convertToCapped createCollection createIndex createSearchIndexes dropCollection insert updateSearchIndex")
)

func sorted(lists ...[]string) []string {
	all := slices.Concat(lists...)
	sort.Strings(all)
	return slices.Compact(all)
}

func without1(list []string, gone string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(a string) bool { return a == gone })
}

// databaseRoles are the roles that each database has.
var databaseRoles = map[string]func(db string) []privilege{
	"read":      func(db string) []privilege { return data(db, readActions) },
	"readWrite": func(db string) []privilege { return data(db, readWriteActions) },
	"dbAdmin":   dbAdmin,
	"userAdmin": func(db string) []privilege { return []privilege{{onColl(db, ""), userAdminActions}} },
	"dbOwner": func(db string) []privilege {
		return merge(merge(data(db, readWriteActions), dbAdmin(db)), []privilege{{onColl(db, ""), userAdminActions}})
	},
	"enableSharding": func(db string) []privilege { return []privilege{{onColl(db, ""), enableShardingActions}} },
}

// adminRoles are the roles that admin has besides, but root, which is made of them.
var adminRoles = map[string]func() []privilege{
	"readAnyDatabase":      func() []privilege { return anyDatabase(data("", readActions)) },
	"readWriteAnyDatabase": func() []privilege { return anyDatabase(data("", readWriteActions)) },
	"dbAdminAnyDatabase":   func() []privilege { return anyDatabase(dbAdmin("")) },
	"userAdminAnyDatabase": userAdminAnyDatabase,
	"clusterAdmin": func() []privilege {
		return merge(merge(merge(clusterManager(), clusterMonitor()), hostManager()), []privilege{{onColl("", ""), words("dropDatabase")}})
	},
	"clusterManager":        clusterManager,
	"clusterMonitor":        clusterMonitor,
	"hostManager":           hostManager,
	"directShardOperations": func() []privilege { return []privilege{{onCluster, words("issueDirectShardOperations")}} },
	"backup":                backup,
	"restore":               restore,
	"__system":              func() []privilege { return []privilege{{onAnyResource, words("anyAction")}} },
}

// data are actions on the ordinary collections of a database ("" is all) and system.js.
func data(db string, actions []string) []privilege {
	return []privilege{{onColl(db, ""), actions}, {onColl(db, "system.js"), actions}}
}

func dbAdmin(db string) []privilege {
	return []privilege{{onColl(db, ""), dbAdminActions}, {onColl(db, "system.profile"), profileActions}}
}

func anyDatabase(list []privilege) []privilege {
	return append(list, privilege{onCluster, words("listDatabases")})
}

func userAdminAnyDatabase() []privilege {
	list := []privilege{
		{onColl("", ""), userAdminActions},
		{onCluster, words("authSchemaUpgrade invalidateUserCache listDatabases")},
	}
	for _, coll := range []string{"system.users", "system.roles", "system.version", "system.new_users", "system.backup_users"} {
		actions := configRead
		if coll == "system.users" || coll == "system.roles" {
			actions = sorted(configRead, words("createIndex dropIndex"))
		}
		list = append(list, privilege{onColl(adminDB, coll), actions})
	}
	return append(list, privilege{onColl("", "system.users"), configRead})
}

func clusterManager() []privilege {
	sharding := words("enableSharding moveChunk")
	return []privilege{
		{onCluster, words(`addShard appendOplogNote applicationMessage checkMetadataConsistency cleanupOrphaned flushRouterConfig getClusterParameter
			getDefaultRWConcern listSessions listShards moveCollection removeShard replSetConfigure replSetGetConfig replSetGetStatus replSetStateChange
			resync setClusterParameter setDefaultRWConcern setFeatureCompatibilityVersion transitionFromDedicatedConfigServer
			transitionToDedicatedConfigServer unshardCollection`)},
		{onColl("", ""), words("analyzeShardKey clearJumboFlag configureQueryAnalyzer enableSharding moveChunk refineCollectionShardKey reshardCollection")},
		{onColl(configDB, ""), sorted(configRead, sharding, words("insert remove update"))},
		{onColl(configDB, "system.js"), configRead},
		{onColl(localDB, ""), sorted(sharding, words("insert remove update"))},
		{onColl(localDB, "system.replset"), configRead},
	}
}

func clusterMonitor() []privilege {
	return []privilege{
		{onCluster, words(`connPoolStats getCmdLineOpts getDefaultRWConcern getLog getParameter getShardMap hostInfo inprog listClusterCatalog listDatabases
			listSessions listShards replSetGetConfig replSetGetStatus serverStatus shardingState top useUUID`)},
		{onColl("", ""), words("collStats dbStats indexStats")},
		{onColl("", "system.profile"), words("find")},
		{onColl(configDB, ""), sorted(configRead, words("indexStats"))},
		{onColl(configDB, "system.js"), configRead},
		{onColl(localDB, ""), sorted(configRead, words("indexStats"))},
		{onColl(localDB, "system.js"), configRead},
		{onColl(localDB, "system.replset"), words("find")},
		{onColl(localDB, "system.profile"), words("find")},
	}
}

func hostManager() []privilege {
	return []privilege{
		{onCluster, words(`applicationMessage closeAllDatabases compact connPoolSync flushRouterConfig fsync invalidateUserCache killAnyCursor killAnySession
			killop logRotate oidReset resync rotateCertificates setParameter shutdown touch unlock`)},
		{onColl("", ""), words("killCursors")},
	}
}

func backup() []privilege {
	list := []privilege{
		{onAnyResource, words("listCollections listDatabases listIndexes listSearchIndexes")},
		{onCluster, words("appendOplogNote getParameter listDatabases serverStatus setUserWriteBlockMode")},
		{onColl(configDB, "settings"), words("find insert update")},
		{onColl(adminDB, "mms.backup"), words("insert update")},
	}
	for _, ns := range [][2]string{
		{"", ""}, {"", "system.js"}, {"", "system.profile"}, {"", "system.users"}, {adminDB, "system.users"}, {adminDB, "system.roles"},
		{adminDB, "system.new_users"}, {adminDB, "system.backup_users"}, {adminDB, "system.version"}, {configDB, ""}, {localDB, ""}, {localDB, "system.replset"},
	} {
		list = append(list, privilege{onColl(ns[0], ns[1]), words("find")})
	}
	return list
}

func restore() []privilege {
	write := without1(without1(restoreActions, "convertToCapped"), "createSearchIndexes")
	users := sorted(without1(write, "updateSearchIndex"), words("find remove update"))
	return []privilege{
		{onCluster, words("getParameter setUserWriteBlockMode")},
		{onAnyResource, words("listCollections")},
		{onColl("", ""), sorted(restoreActions, userAdminActions)},
		{onColl("", "system.js"), write},
		{onColl(configDB, ""), write},
		{onColl(localDB, ""), write},
		{onColl(adminDB, "system.version"), sorted(write, words("find"))},
		{onColl(adminDB, "system.roles"), words("createIndex")},
		{onColl(adminDB, "system.users"), users},
		{onColl("", "system.users"), users},
	}
}

func root() (list []privilege) {
	for _, r := range []string{"readWriteAnyDatabase", "dbAdminAnyDatabase", "userAdminAnyDatabase", "clusterAdmin", "restore", "backup"} {
		list = merge(list, adminRoles[r]())
	}
	return merge(list, []privilege{{onAnyResource, words("validate")}})
}

// builtin returns the privileges of a built-in role and whether n is one.
func builtin(n Name) ([]privilege, bool) {
	if f := databaseRoles[n.Name]; f != nil && n.DB != "" && n.DB != externalDB {
		return f(n.DB), true
	}
	switch f := adminRoles[n.Name]; {
	case n.DB != adminDB:
		return nil, false
	case n.Name == rootRole:
		return root(), true
	case f != nil:
		return f(), true
	}
	return nil, false
}

// builtinNames are the built-in roles of a database, sorted.
func builtinNames(db string) (names []Name) {
	if db == externalDB || db == "" {
		return nil
	}
	for r := range databaseRoles {
		names = append(names, Name{r, db})
	}
	if db == adminDB {
		names = append(names, Name{rootRole, db})
		for r := range adminRoles {
			names = append(names, Name{r, db})
		}
	}
	slices.SortFunc(names, func(a, b Name) int { return strings.Compare(a.Name, b.Name) })
	return names
}
