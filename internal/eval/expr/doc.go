// Package expr parses and evaluates MongoDB's aggregation expressions.
//
// It owns the registry of expression operators (Table), the parser with its scopes of
// variables, constant folding, dependency analysis and serialisation for explain. It
// promises results of MongoDB's types, error codes and messages, and that a value
// returned by Eval lives until the next Reset of its Env: it aliases the document, the
// parsed expression or the Env's arena; clone what must live longer.
//
// It must not know collections, commands, plans or stages, and does no I/O: the time,
// random numbers, cluster time, roles and the interrupt come in through Env.
package expr
