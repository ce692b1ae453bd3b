// Package auth keeps users and roles.
//
// It owns admin.system.users and admin.system.roles, in MongoDB's format (schema version
// 5), with the SCRAM credentials in them, the documents of admin.system.version, the
// built-in roles with their privileges, and the rules of the user and role commands:
// what may be named, granted and inherited.
//
// It promises that each command's changes happen together or not at all (also those to
// users and roles at once) and are ordinary logged writes of these collections; that the
// graph of roles has no cycle as far as its own commands go; that no password is kept,
// only what SCRAM needs to check one; and that documents which were written past it
// (restore, replication) are shown as they are and never make it fail.
//
// It must not know connections, commands or the wire: authenticating clients and
// enforcing privileges is not built yet.
package auth
