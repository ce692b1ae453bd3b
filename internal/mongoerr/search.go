package mongoerr

// NoSearch is the error of a search stage, or, with the name "", of the commands for
// search indexes, on a server that has no search server beside it.
func NoSearch(stage string) *Error {
	what := "$search and $vectorSearch aggregation stages"
	if stage == "" || stage == "$listSearchIndexes" {
		what = "Atlas Search Database Commands and the $listSearchIndexes aggregation stage"
	}
	return New(SearchNotEnabled, "Using %s requires additional configuration. Please connect to Atlas or an AtlasCLI local deployment to enable. For more information on how to connect, see https://dochub.mongodb.org/core/atlas-cli-deploy-local-reqs.", what)
}
