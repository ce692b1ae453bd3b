// Package pipeline parses, rewrites and runs aggregation pipelines.
//
// It owns the registry of stages (Table), their parsing with MongoDB's errors, the
// optimiser, the stages as pull iterators over raw documents, and their form in
// explain. How documents are found is not its business: SplitFind cuts off what a find
// can do (and plan), Run takes the iterator that the find became.
//
// It promises that a document that Next returned stays valid until the following Next,
// that blocking stages keep at most about 100 MB in memory and spill beyond that (or
// fail, if they may not), and that the interrupt is asked often.
//
// It must not know plans, storage, catalog or sessions: other namespaces, writing,
// statistics and spilling come in through Host.
package pipeline
