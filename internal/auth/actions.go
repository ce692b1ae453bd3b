package auth

// knownActions are the privilege actions of MongoDB 8.0: those that it documents and
// those that only its own roles have.
var knownActions = func() map[string]bool {
	m := map[string]bool{}
	for _, a := range words(`
		addShard analyzeShardKey anyAction appendOplogNote applicationMessage applyOps auditConfigure auditLogConfigure authCheck authenticate
		authSchemaUpgrade bypassDefaultMaxTimeMS bypassDocumentValidation bypassWriteBlockingMode changeCustomData changeOwnCustomData
		changeOwnPassword changePassword changeStream checkFreeMonitoringStatus checkMetadataConsistency cleanupOrphaned
		cleanupStructuredEncryptionData clearJumboFlag closeAllDatabases collMod collStats compact compactStructuredEncryptionData
		configureQueryAnalyzer connPoolStats connPoolSync convertToCapped cpuProfiler createCollection createDatabase createIndex createRole
		createSearchIndexes createUser dbHash dbStats dropCollection dropConnections dropDatabase dropIndex dropRole dropSearchIndex dropUser
		enableProfiler enableSharding exportCollection find flushRouterConfig forceUUID fsync getClusterParameter getCmdLineOpts
		getDefaultRWConcern getLog getParameter getShardMap getShardVersion grantRole hostInfo impersonate importCollection indexStats inprog
		insert internal invalidateUserCache issueDirectShardOperations killAnyCursor killAnySession killCursors killop listCachedAndActiveUsers
		listClusterCatalog listCollections listCursors listDatabases listIndexes listSampledQueries listSearchIndexes listSessions listShards
		logRotate moveChunk moveCollection netstat oidReset operationMetrics planCacheIndexFilter planCacheRead planCacheWrite querySettings
		queryStatsRead queryStatsReadTransformed reIndex refineCollectionShardKey remove removeShard renameCollection renameCollectionSameDB
		repairDatabase replSetConfigure replSetGetConfig replSetGetStatus replSetHeartbeat replSetReconfig replSetResizeOplog
		replSetStateChange reshardCollection resync revokeRole rotateCertificates runAsLessPrivilegedUser serverStatus
		setAuthenticationRestriction setClusterParameter setDefaultRWConcern setFeatureCompatibilityVersion setFreeMonitoring setParameter
		setUserWriteBlockMode shardedDataDistribution shardingState shutdown splitChunk splitVector storageDetails top touch trafficRecord
		transitionFromDedicatedConfigServer transitionToDedicatedConfigServer unlock unshardCollection update updateSearchIndex useTenant
		useUUID validate viewRole viewUser`) {
		m[a] = true
	}
	return m
}()
