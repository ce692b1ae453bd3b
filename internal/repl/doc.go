// Package repl owns the node's place in a replica set: its name, configuration,
// term, election and topology version, as drivers see them in hello.
//
// Today a set has exactly one member, which is its primary from the moment that the
// set is initiated. The package promises that a configuration is durable before
// anybody sees it, that the term grows with every start as primary, and that every
// change of what hello shows changes the topology version and wakes its waiters.
//
// It must not know commands or sockets. Groups of several members over Raft come
// here in a later issue.
package repl
