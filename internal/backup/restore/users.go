package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	ours "github.com/cairndb/cairn/internal/bson"
)

// wantsUsers says whether users and roles are restored: with everything, with the
// database admin, or if asked for those of one database.
func (r *Restore) wantsUsers() bool {
	db := r.o.Namespace.DB
	if r.server.Atlas || !r.o.Input.RestoreDBUsersAndRoles && db != "" && db != "admin" {
		return false
	}
	return r.plan.users != nil || r.plan.roles != nil
}

// checkAuthVersions refuses users in a form that the server does not have. done is set by
// the caller that has seen the version already.
func (r *Restore) checkAuthVersions(ctx context.Context, _ *task) error {
	if !r.wantsUsers() || r.authChecked {
		return nil
	}
	r.log.Info("comparing auth version of the dump directory and target server")
	dump, err := r.dumpAuthVersion()
	if err != nil {
		return fmt.Errorf("error getting auth version from dump: %w", err)
	}
	server, err := r.serverAuthVersion(ctx)
	if err != nil {
		return fmt.Errorf("error getting auth version of server: %w", err)
	}
	if err := compareAuthVersions(dump, server, r.log.Info, r.log.Always); err != nil {
		return fmt.Errorf("the users and roles collections in the dump have an incompatible auth version with target server: %v", err)
	}
	r.authChecked = true
	return nil
}

// dumpAuthVersion tells the form of the dump's users.
func (r *Restore) dumpAuthVersion() (int, error) {
	if v := r.plan.dumpFrom; v[0] > 8 || v[0] == 8 && v[1] >= 1 {
		r.log.Debug("skipping authSchema check for server version %d.%d.%d", v[0], v[1], v[2])
		return 5, nil // the only one since 8.1, which keeps no record of it
	}
	t := r.plan.version
	if t == nil {
		if r.o.Input.RestoreDBUsersAndRoles {
			r.log.Always("no system.version bson file found in %#q database dump", r.o.Namespace.DB)
			r.log.Always("warning: assuming users and roles collections are of auth version 3")
			r.log.Always("if users are from an earlier version of MongoDB, they may not restore properly")
			return 3, nil
		}
		r.log.Info("no system.version bson file found in dump")
		r.log.Always("assuming users in the dump directory are from <= 2.4 (auth version 1)")
		return 1, nil
	}
	in, done, err := r.openTask(t)
	if err != nil {
		return 0, err
	}
	version, found := 0, false
	err = readDocuments(in, maxDocument, func(block []byte) error {
		for len(block) > 0 {
			doc := ours.Raw(block[:docSize(block)])
			block = block[len(doc):]
			if id := doc.Get("_id"); id.Type != ours.TypeString || id.Str() != "authSchema" {
				r.log.Debug("system.version document is not an authSchema %v", id)
				continue
			}
			v := doc.Get("currentVersion")
			n, ok := v.AsInt64()
			if !ok {
				return fmt.Errorf("can't unmarshal system.version currentVersion as an int: %v", v)
			}
			version, found = int(n), true
		}
		return nil
	})
	if err = errors.Join(err, done()); err != nil {
		return 0, err
	}
	if !found {
		return 0, errors.New("system.version bson file does not have authSchema document")
	}
	return version, nil
}

func (r *Restore) serverAuthVersion(ctx context.Context) (int, error) {
	raw, err := r.client.Database("admin").RunCommand(ctx, bson.D{{Key: "getParameter", Value: 1}, {Key: "authSchemaVersion", Value: 1}}).Raw()
	var ce mongo.CommandError
	if errors.As(err, &ce) && (ce.Message == "no option found to get" || strings.Contains(ce.Message, "no such cmd")) {
		if r.server.AtLeast(3, 0, 0) { // servers that have dropped the parameter
			return 5, nil
		}
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	n, ok := ours.Raw(raw).Get("authSchemaVersion").AsInt64()
	if !ok {
		return 0, fmt.Errorf("getParameter command returned non-numeric result: %v", ours.Raw(raw).Get("authSchemaVersion"))
	}
	return int(n), nil
}

// compareAuthVersions says whether users of one form can be restored to a server of
// another.
func compareAuthVersions(dump, server int, info, always func(string, ...any)) error {
	switch {
	case dump == 2 || dump == 4:
		return fmt.Errorf("cannot restore users and roles from a dump file with auth version %v; finish the upgrade or roll it back", dump)
	case server == 2 || server == 4:
		return fmt.Errorf("cannot restore users and roles to a server with auth version %v; finish the upgrade or roll it back", server)
	}
	switch [2]int{dump, server} {
	case [2]int{3, 5}, [2]int{5, 5}, [2]int{3, 3}, [2]int{1, 1}:
		info("restoring users and roles of auth version %d to a server of auth version %d", dump, server)
	case [2]int{1, 3}:
		info("restoring users and roles of auth version 1 to a server of auth version 3")
		always("users and roles will have to be updated with the authSchemaUpgrade command")
	case [2]int{1, 5}, [2]int{5, 3}:
		return fmt.Errorf("cannot restore users of auth version %d to a server of auth version %d", dump, server)
	case [2]int{5, 1}, [2]int{3, 1}:
		return errors.New("cannot restore users and roles dump file >= auth version 3 to a server of auth version 1")
	default:
		return fmt.Errorf("invalid auth pair: dump=%v, server=%v", dump, server)
	}
	return nil
}

// restoreUsers merges the dump's users and roles into the server's: they are put into
// temporary collections, which one command takes over as a whole.
func (r *Restore) restoreUsers(ctx context.Context) (err error) {
	if !r.wantsUsers() {
		return nil
	}
	if err := r.checkAuthVersions(ctx, nil); err != nil {
		return err
	}
	users, roles := r.plan.users, r.plan.roles
	if users != nil && roles != nil && users.db != roles.db {
		return fmt.Errorf("can't restore users and roles to different databases, %#q and %#q", users.db, roles.db)
	}
	cmd := bson.D{{Key: "_mergeAuthzCollections", Value: 1}}
	target := ""
	for _, x := range []struct {
		t               *task
		what, arg, temp string
	}{
		{users, "users", "tempUsersCollection", r.o.Output.TempUsersColl},
		{roles, "roles", "tempRolesCollection", r.o.Output.TempRolesColl},
	} {
		if x.t == nil {
			continue
		}
		if r.sizeOf(x.t) == 0 {
			r.log.Always("%v file %#q is empty; skipping %v restoration", x.what, x.t.location, x.what)
			continue
		}
		r.log.Always("restoring %v from %#q", x.what, x.t.location)
		target = x.t.db
		cmd = append(cmd, bson.E{Key: x.arg, Value: "admin." + x.temp})
		temp := &task{db: "admin", coll: x.temp}
		if there, err := r.exists(ctx, "admin", x.temp); err != nil {
			return err
		} else if there {
			r.log.Info("dropping preexisting temporary collection admin.%#q", x.temp)
			if err := r.drop(ctx, temp); err != nil {
				return err
			}
		}
		defer func() {
			// Also when the restore is being stopped: they hold credentials.
			if derr := r.drop(context.WithoutCancel(ctx), temp); derr != nil {
				r.log.Always("error dropping temporary collection admin.%#q: %v", x.temp, derr)
			}
		}()
		if err := r.loadSpecial(ctx, x.t, x.temp); err != nil {
			return fmt.Errorf("error restoring %v: %w", x.what, err)
		}
	}
	if len(cmd) == 1 {
		return nil
	}
	if target == "admin" {
		target = "" // those of all databases
	}
	cmd = append(cmd, bson.E{Key: "drop", Value: r.o.Output.Drop}, bson.E{Key: "db", Value: target}, bson.E{Key: "writeConcern", Value: r.writeConcern()})
	if err := r.command(ctx, "admin", cmd); err != nil {
		return fmt.Errorf("error running merge command: %w", err)
	}
	return nil
}

// loadSpecial loads users or roles into a collection of admin. All must go in.
func (r *Restore) loadSpecial(ctx context.Context, t *task, coll string) error {
	in, done, err := r.openTask(t)
	if err != nil {
		return err
	}
	p := newPool(ctx, r.client, r.server, r.log, 1, 1, insertOptions{writeConcern: r.writeConcern(), unacknowledged: !r.o.Acknowledged(), stopOnError: true, retry: r.o.retryFor(), sessions: r.sessions})
	l := p.newLoader("admin", coll, 1, true)
	err = readDocuments(in, maxDocument, l.Documents)
	if err == nil {
		err = l.wait()
	}
	if err != nil {
		p.fail(err)
	}
	if perr := p.close(); err == nil {
		err = perr
	}
	return errors.Join(err, done())
}
