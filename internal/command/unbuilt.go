package command

import "github.com/cairndb/cairn/internal/mongoerr"

// The reasons that several rows share. The reply says "<name> is not supported by Cairn: <reason>".
const (
	noAuth      = "access control is not built yet"
	noSharding  = "sharding is not built yet"
	noOther     = "replica sets have one member so far"
	noSearch    = "search indexes belong to MongoDB Atlas"
	noFLE       = "Queryable Encryption is not built"
	noFilters   = "the planner takes hints, not index filters"
	noSettings  = "the planner takes hints, not query settings"
	noCluster   = "cluster parameters are not built yet"
	noAudit     = "auditing is not built"
	noRecording = "traffic is not recorded"
	noOIDC      = "OpenID Connect is not built"
)

// unbuiltCommands are the commands that clients may send to MongoDB 8.0 and that no other file
// of this package has. A name that 8.0 itself does not know is no row: it is CommandNotFound.
// Please keep each block sorted.
var unbuiltCommands = []Command{
	{Name: "authenticate", Flags: Unbuilt, Note: noAuth, Help: "Authenticates a connection by its certificate."},
	{Name: "rotateCertificates", Flags: Unbuilt, Note: "TLS is not built yet", Help: "Reads certificates again."},
	{Name: "saslContinue", Flags: Unbuilt, Note: noAuth, Help: "Goes on with an authentication."},
	{Name: "saslStart", Flags: Unbuilt, Note: noAuth, Help: "Begins an authentication."},

	{Name: "abortMoveCollection", Flags: Unbuilt, Note: noSharding, Help: "Stops the move of a collection."},
	{Name: "abortReshardCollection", Flags: Unbuilt, Note: noSharding, Help: "Stops a change of the shard key."},
	{Name: "abortUnshardCollection", Flags: Unbuilt, Note: noSharding, Help: "Stops an unshardCollection."},
	{Name: "addShard", Flags: Unbuilt, Note: noSharding, Help: "Adds a shard to the cluster."},
	{Name: "addShardToZone", Flags: Unbuilt, Note: noSharding, Help: "Puts a shard into a zone."},
	{Name: "analyzeShardKey", Flags: Unbuilt, Note: noSharding, Help: "Rates a shard key."},
	{Name: "balancerCollectionStatus", Flags: Unbuilt, Note: noSharding, Help: "Shows whether a collection is balanced."},
	{Name: "balancerStart", Flags: Unbuilt, Note: noSharding, Help: "Starts the balancer."},
	{Name: "balancerStatus", Flags: Unbuilt, Note: noSharding, Help: "Shows the balancer's state."},
	{Name: "balancerStop", Flags: Unbuilt, Note: noSharding, Help: "Stops the balancer."},
	{Name: "checkMetadataConsistency", Flags: Unbuilt, Note: noSharding, Help: "Looks for contradictions in the sharding metadata."},
	{Name: "cleanupOrphaned", Flags: Unbuilt, Note: noSharding, Help: "Deletes documents that the shard does not own."},
	{Name: "cleanupReshardCollection", Flags: Unbuilt, Note: noSharding, Help: "Cleans up after a failed change of the shard key."},
	{Name: "clearJumboFlag", Flags: Unbuilt, Note: noSharding, Help: "Lets a chunk be split and moved again."},
	{Name: "commitReshardCollection", Flags: Unbuilt, Note: noSharding, Help: "Ends a change of the shard key early."},
	{Name: "configureCollectionBalancing", Flags: Unbuilt, Note: noSharding, Help: "Sets how a collection is balanced."},
	{Name: "configureQueryAnalyzer", Flags: Unbuilt, Note: noSharding, Help: "Samples queries to rate shard keys."},
	{Name: "enableSharding", Flags: Unbuilt, Note: noSharding, Help: "Chooses the primary shard of a database."},
	{Name: "flushRouterConfig", Flags: Unbuilt, Note: noSharding, Help: "Forgets cached routing tables."},
	{Name: "getShardMap", Flags: Unbuilt, Note: noSharding, Help: "Shows the hosts of all shards."},
	{Name: "getShardVersion", Flags: Unbuilt, Note: noSharding, Help: "Shows the version of a collection's chunks."},
	{Name: "listShards", Flags: Unbuilt, Note: noSharding, Help: "Lists the shards."},
	{Name: "mergeAllChunksOnShard", Flags: Unbuilt, Note: noSharding, Help: "Merges all chunks of a shard that can be."},
	{Name: "mergeChunks", Flags: Unbuilt, Note: noSharding, Help: "Merges neighbouring chunks."},
	{Name: "moveChunk", Flags: Unbuilt, Note: noSharding, Help: "Moves a chunk to another shard."},
	{Name: "moveCollection", Flags: Unbuilt, Note: noSharding, Help: "Moves an unsharded collection to another shard."},
	{Name: "movePrimary", Flags: Unbuilt, Note: noSharding, Help: "Changes the primary shard of a database."},
	{Name: "moveRange", Flags: Unbuilt, Note: noSharding, Help: "Moves a range of keys to another shard."},
	{Name: "refineCollectionShardKey", Flags: Unbuilt, Note: noSharding, Help: "Adds fields to a shard key."},
	{Name: "removeShard", Flags: Unbuilt, Note: noSharding, Help: "Drains and removes a shard."},
	{Name: "removeShardFromZone", Flags: Unbuilt, Note: noSharding, Help: "Takes a shard out of a zone."},
	{Name: "reshardCollection", Flags: Unbuilt, Note: noSharding, Help: "Changes a collection's shard key."},
	{Name: "setAllowMigrations", Flags: Unbuilt, Note: noSharding, Help: "Forbids or allows the moves of a collection's chunks."},
	{Name: "shardCollection", Flags: Unbuilt, Note: noSharding, Help: "Shards a collection."},
	{Name: "shardingState", Flags: Unbuilt, Note: noSharding, Help: "Shows whether this server is a shard."},
	{Name: "split", Flags: Unbuilt, Note: noSharding, Help: "Splits a chunk."},
	{Name: "splitVector", Flags: Unbuilt, Note: noSharding, Help: "Finds points to split a chunk at."},
	{Name: "transitionFromDedicatedConfigServer", Flags: Unbuilt, Note: noSharding, Help: "Makes the config server a shard too."},
	{Name: "transitionToDedicatedConfigServer", Flags: Unbuilt, Note: noSharding, Help: "Makes the config server no shard any more."},
	{Name: "unshardCollection", Flags: Unbuilt, Note: noSharding, Help: "Brings a collection back to one shard."},
	{Name: "updateZoneKeyRange", Flags: Unbuilt, Note: noSharding, Help: "Puts a range of keys into a zone."},

	{Name: "appendOplogNote", Flags: Unbuilt, Note: "only the server itself writes no-ops so far", Help: "Writes a no-op with a message into the oplog."},
	{Name: "replSetAbortPrimaryCatchUp", Flags: Unbuilt, Note: noOther, Help: "Lets a new primary begin without catching up."},
	{Name: "replSetHeartbeat", Flags: Unbuilt, Note: noOther, Help: "Members ask each other for their state."},
	{Name: "replSetRequestVotes", Flags: Unbuilt, Note: noOther, Help: "A member asks for votes."},
	{Name: "replSetStepUp", Flags: Unbuilt, Note: noOther, Help: "Makes a member call an election."},
	{Name: "replSetUpdatePosition", Flags: Unbuilt, Note: noOther, Help: "A member reports how far it is."},
	{Name: "setDefaultRWConcern", Flags: Unbuilt, Note: "the defaults are those of MongoDB 8.0 and fixed", Help: "Sets the default read and write concern."},
	{Name: "setIndexCommitQuorum", Flags: Unbuilt, Note: noOther, Help: "Changes how many members must have built an index."},

	{Name: "createSearchIndexes", Flags: Unbuilt, Note: noSearch, Run: refuseSearch, Help: "Builds search indexes."},
	{Name: "dropSearchIndex", Flags: Unbuilt, Note: noSearch, Run: refuseSearch, Help: "Drops a search index."},
	{Name: "listSearchIndexes", Flags: Unbuilt, Note: noSearch, Run: refuseSearch, Help: "Lists search indexes."},
	{Name: "updateSearchIndex", Flags: Unbuilt, Note: noSearch, Run: refuseSearch, Help: "Changes a search index."},

	{Name: "autoCompact", Flags: Unbuilt, Note: "the engine compacts by itself, always", Help: "Switches compaction in the background on or off."},
	{Name: "cleanupStructuredEncryptionData", Flags: Unbuilt, Note: noFLE, Help: "Cleans the metadata of encrypted fields."},
	{Name: "cloneCollectionAsCapped", Flags: Unbuilt, Note: "create the capped collection and copy with $merge", Help: "Copies a collection into a new capped one."},
	{Name: "compact", Flags: Unbuilt, Note: "the engine compacts by itself, always", Help: "Gives unused space back."},
	{Name: "compactStructuredEncryptionData", Flags: Unbuilt, Note: noFLE, Help: "Compacts the metadata of encrypted fields."},
	{Name: "connPoolStats", Flags: Unbuilt, Note: "this server opens no connections to others", Help: "Shows the connections to other servers."},
	{Name: "dbCheck", Flags: Unbuilt, Note: "there is no other member to compare with", Help: "Compares the members' data."},
	{Name: "dropConnections", Flags: Unbuilt, Note: "this server opens no connections to others", Help: "Closes the connections to other servers."},
	{Name: "filemd5", Flags: Unbuilt, Note: "GridFS clients of today compute their own checksums", Help: "Computes the MD5 sum of a GridFS file."},
	{Name: "getAuditConfig", Flags: Unbuilt, Note: noAudit, Help: "Shows how auditing is set."},
	{Name: "getChangeStreamState", Flags: Unbuilt, Note: "belongs to MongoDB's serverless mode", Help: "Shows whether change streams are on."},
	{Name: "getClusterParameter", Flags: Unbuilt, Note: noCluster, Help: "Shows parameters of the whole cluster."},
	{Name: "getDiagnosticData", Flags: Unbuilt, Note: "no diagnostic data are captured; serverStatus has the figures", Help: "Shows the newest diagnostic sample."},
	{Name: "lockInfo", Flags: Unbuilt, Note: "there are no collection and database locks to show", Help: "Shows the locks held."},
	{Name: "logApplicationMessage", Flags: Unbuilt, Note: noAudit, Help: "Writes a message into the audit log."},
	{Name: "mapReduce", Flags: Unbuilt, Note: "there is no JavaScript engine; use an aggregation", Help: "Aggregates by JavaScript functions."},
	{Name: "oidcListKeys", Flags: Unbuilt, Note: noOIDC, Help: "Lists the keys of identity providers."},
	{Name: "oidcRefreshKeys", Flags: Unbuilt, Note: noOIDC, Help: "Fetches the keys of identity providers again."},
	{Name: "planCacheClearFilters", Flags: Unbuilt, Note: noFilters, Help: "Removes index filters."},
	{Name: "planCacheListFilters", Flags: Unbuilt, Note: noFilters, Help: "Lists index filters."},
	{Name: "planCacheSetFilter", Flags: Unbuilt, Note: noFilters, Help: "Sets which indexes a query shape may use."},
	{Name: "reIndex", Flags: Unbuilt, Note: "validate tells whether an index is sound; drop and create it if it is not", Help: "Builds all indexes of a collection again."},
	{Name: "reapLogicalSessionCacheNow", Flags: Unbuilt, Note: "the reaper of sessions keeps its own time", Help: "Removes expired sessions at once."},
	{Name: "refreshLogicalSessionCacheNow", Flags: Unbuilt, Note: "sessions are current at any time", Help: "Writes the cached sessions at once."},
	{Name: "removeQuerySettings", Flags: Unbuilt, Note: noSettings, Help: "Removes the settings of a query shape."},
	{Name: "setAuditConfig", Flags: Unbuilt, Note: noAudit, Help: "Sets what is audited."},
	{Name: "setChangeStreamState", Flags: Unbuilt, Note: "belongs to MongoDB's serverless mode", Help: "Switches change streams on or off."},
	{Name: "setClusterParameter", Flags: Unbuilt, Note: noCluster, Help: "Sets a parameter of the whole cluster."},
	{Name: "setProfilingFilterGlobally", Flags: Unbuilt, Note: "profile itself sets the filter for all databases", Help: "Sets the profiler's filter for all databases."},
	{Name: "setQuerySettings", Flags: Unbuilt, Note: noSettings, Help: "Sets indexes and limits for a query shape."},
	{Name: "setUserWriteBlockMode", Flags: Unbuilt, Note: "writes are blocked by fsync with lock only", Help: "Blocks the writes of users."},
	{Name: "startRecordingTraffic", Flags: Unbuilt, Note: noRecording, Help: "Begins to record the traffic."},
	{Name: "stopRecordingTraffic", Flags: Unbuilt, Note: noRecording, Help: "Ends the recording of traffic."},
	{Name: "validateDBMetadata", Flags: Unbuilt, Note: "not built yet", Help: "Checks metadata against the stable API."},
}

// refuseSearch answers as a MongoDB without a search server does: clients, who may be
// meant for both, know that error.
func refuseSearch(*Ctx) error { return mongoerr.NoSearch("") }
