package pipeline

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Row is a row of the registry of stages.
type Row struct {
	Name   string
	Since  string
	Status expr.Status
	Help   string

	refuse       func(name string) *mongoerr.Error // of a missing one that has an error of its own
	parse        func(ps *parser, name string, v bson.Value) ([]stage, error)
	first        bool // only as the first stage
	last         bool // only as the last stage
	noCollection bool // runs on {aggregate: 1}
	unstable     bool // not in version 1 of the API
}

// Table returns the registry, sorted by name. Please keep it so. It is a function because
// its rows lead back to it through the parser.
func Table() []Row {
	return []Row{
		{Name: "$_internalUnpackBucket", Since: "5.0", Help: "the measurements of the buckets of a time-series collection", parse: parseUnpack, unstable: true},
		{Name: "$addFields", Since: "3.4", Help: "add or replace fields", parse: parseAddFields},
		{Name: "$bucket", Since: "3.4", Help: "group by boundaries", parse: parseBucket},
		{Name: "$bucketAuto", Since: "3.4", Help: "group into so many buckets of about the same size; granularity is refused", parse: parseBucketAuto},
		{Name: "$changeStream", Since: "3.6", Status: expr.Missing},
		{Name: "$changeStreamSplitLargeEvent", Since: "6.0.9", Status: expr.Missing},
		{Name: "$collStats", Since: "3.4", Help: "statistics of the collection", parse: parseCollStats, first: true},
		{Name: "$count", Since: "3.4", Help: "number of documents", parse: parseCount},
		{Name: "$currentOp", Since: "3.6", Help: "running operations", parse: parseCurrentOp, first: true, noCollection: true, unstable: true},
		{Name: "$densify", Since: "5.1", Status: expr.Missing},
		{Name: "$documents", Since: "5.1", Help: "documents from an expression", parse: parseDocuments, first: true, noCollection: true},
		{Name: "$facet", Since: "3.4", Help: "several pipelines over the same input", parse: parseFacet},
		{Name: "$fill", Since: "5.3", Status: expr.Missing},
		{Name: "$geoNear", Since: "2.4", Status: expr.Missing, refuse: noGeoIndex},
		{Name: "$graphLookup", Since: "3.4", Help: "follow references in another collection", parse: parseGraphLookup},
		{Name: "$group", Since: "2.2", Help: "group by a key and accumulate", parse: parseGroup},
		{Name: "$indexStats", Since: "3.2", Help: "use of the indexes", parse: parseIndexStats, first: true, unstable: true},
		{Name: "$limit", Since: "2.2", Help: "at most so many documents", parse: parseLimit},
		{Name: "$listCatalog", Since: "6.0", Status: expr.Missing},
		{Name: "$listClusterCatalog", Since: "8.1", Status: expr.Missing},
		{Name: "$listLocalSessions", Since: "3.6", Help: "the sessions that are kept alive", parse: parseListSessions, first: true, noCollection: true, unstable: true},
		{Name: "$listSampledQueries", Since: "7.0", Status: expr.Missing},
		{Name: "$listSearchIndexes", Since: "7.0", Status: expr.Missing, refuse: mongoerr.NoSearch},
		{Name: "$listSessions", Since: "3.6", Help: "the same of config.system.sessions", parse: parseListSessions, first: true, unstable: true},
		{Name: "$lookup", Since: "3.2", Help: "join another collection", parse: parseLookup},
		{Name: "$match", Since: "2.2", Help: "filter", parse: parseMatch},
		{Name: "$merge", Since: "4.2", Help: "write into a collection", parse: parseMerge, last: true},
		{Name: "$out", Since: "2.6", Help: "replace a collection", parse: parseOut, last: true},
		{Name: "$planCacheStats", Since: "4.2", Help: "remembered plans", parse: parsePlanCacheStats, first: true, unstable: true},
		{Name: "$project", Since: "2.2", Help: "choose and compute fields", parse: parseProject},
		{Name: "$querySettings", Since: "8.0", Status: expr.Missing},
		{Name: "$queryStats", Since: "6.0.7", Status: expr.Missing},
		{Name: "$redact", Since: "2.6", Status: expr.Missing},
		{Name: "$replaceRoot", Since: "3.4", Help: "another document instead", parse: parseReplaceRoot},
		{Name: "$replaceWith", Since: "4.2", Help: "another document instead", parse: parseReplaceRoot},
		{Name: "$sample", Since: "3.2", Help: "random documents", parse: parseSample},
		{Name: "$search", Since: "4.2", Status: expr.Missing, refuse: mongoerr.NoSearch},
		{Name: "$searchMeta", Since: "4.4", Status: expr.Missing, refuse: mongoerr.NoSearch},
		{Name: "$set", Since: "4.2", Help: "add or replace fields", parse: parseAddFields},
		{Name: "$setWindowFields", Since: "5.0", Status: expr.Missing},
		{Name: "$shardedDataDistribution", Since: "6.0.3", Status: expr.Missing},
		{Name: "$skip", Since: "2.2", Help: "pass over documents", parse: parseSkip},
		{Name: "$sort", Since: "2.2", Help: "order", parse: parseSort},
		{Name: "$sortByCount", Since: "3.4", Help: "count by a key, most frequent first", parse: parseSortByCount},
		{Name: "$unionWith", Since: "4.4", Help: "the documents of another collection too", parse: parseUnionWith},
		{Name: "$unset", Since: "4.2", Help: "remove fields", parse: parseUnset},
		{Name: "$unwind", Since: "2.2", Help: "a document for each element", parse: parseUnwind},
		{Name: "$vectorSearch", Since: "7.0.2", Status: expr.Missing, refuse: mongoerr.NoSearch},
	}
}

func rowOf(name string) *Row {
	t := Table()
	for i := range t {
		if t[i].Name == name {
			return &t[i]
		}
	}
	return nil
}

// noGeoIndex answers $geoNear as on a collection that has no index for it.
func noGeoIndex(string) *mongoerr.Error {
	return mongoerr.New(mongoerr.IndexNotFound, "$geoNear requires a 2d or 2dsphere index, but none were found")
}
