package pitr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/pitr/load"
	"github.com/cairndb/cairn/internal/bson"
)

// A server does not let views, users and roles be written as documents. Views are made by create;
// users and roles go through the command that the original tools use.

// view is a view of the full backup and where it goes.
type view struct {
	to      string
	options bson.Raw // viewOn, pipeline, collation
}

// readViews reads the definitions of views that are restored.
func (e *Env) readViews(ctx context.Context, p *RestorePlan) (views []view, err error) {
	for i := range p.catalog {
		c := &p.catalog[i]
		if c.Name != "system.views" || c.stream == "" {
			continue
		}
		err := e.specialDocuments(ctx, p, c, func(doc bson.Raw) error {
			ns := doc.Get("_id").Str()
			p.named = append(p.named, strings.Clone(ns))
			to, keep := p.rules.Namespace(ns)
			on := doc.Get("viewOn").Str()
			if !keep || strings.HasPrefix(on, "system.buckets.") { // made with its buckets
				return nil
			}
			db, _, _ := strings.Cut(to, ".")
			onTo, _ := p.rules.Namespace(c.DB + "." + on)
			onDB, onColl, named := strings.Cut(onTo, ".")
			if !named { // what it reads is not restored: it reads what the target has
				onDB, onColl = db, on
			}
			if onDB != db {
				return badSelection("the view %s reads %s, which --rename puts into another database: rename both into one", to, onTo)
			}
			b := bson.NewBuilder(nil)
			b.Str("viewOn", onColl)
			for _, k := range []string{"pipeline", "collation"} {
				if v := doc.Get(k); !v.IsMissing() {
					b.Append(k, v)
				}
			}
			views = append(views, view{strings.Clone(to), b.Finish()})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return views, nil
}

// specialDocuments reads the documents of a small collection of the full backup.
func (e *Env) specialDocuments(ctx context.Context, p *RestorePlan, c *catalogEntry, fn func(bson.Raw) error) (err error) {
	ref, ok := stream(p.state.Manifests[p.Chain.Full.ID], c.stream)
	if !ok {
		return &ChainError{p.Chain.Full.ID, "it has no stream " + c.stream}
	}
	in, err := e.Repo.Open(ctx, ref)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Namespace(), err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return documents(in, fn)
}

// beforeData makes time-series collections and views.
func (r *restorer) beforeData(ctx context.Context) error {
	for i := range r.p.catalog {
		c := &r.p.catalog[i]
		if c.Type != "timeseries" || c.Gone {
			continue
		}
		if r.resume != nil { // with its buckets, which are then loaded again
			if err := r.target.Drop(ctx, c.to); err != nil {
				return err
			}
			r.again(strings.Replace(c.to, ".", ".system.buckets.", 1))
		}
		if err := r.target.Create(ctx, c.to, r.uuid(c), c.Options); err != nil {
			return err
		}
	}
	for _, v := range r.p.views {
		if r.resume != nil {
			if err := r.target.Drop(ctx, v.to); err != nil {
				return err
			}
		}
		if err := r.target.Create(ctx, v.to, bson.UUID{}, v.options); err != nil {
			return err
		}
	}
	return nil
}

// again forgets that a collection was loaded by an earlier run.
func (r *restorer) again(ns string) {
	var left []string
	for _, d := range r.resume.Done {
		if d != ns {
			left = append(left, d)
		}
	}
	r.resume.Done = left
}

// Names of the collections that users and roles go through, as the original tools have them.
const tempUsers, tempRoles = "tempusers", "temproles"

// users merges users and roles into those that the target has: nobody is removed, so that a
// restore does not lock out who runs it.
func (r *restorer) users(ctx context.Context) (err error) {
	if r.o.NoUsers {
		return nil
	}
	cmd := bson.NewBuilder(nil)
	cmd.Int32("_mergeAuthzCollections", 1)
	any := false
	for i := range r.p.catalog {
		c := &r.p.catalog[i]
		if !special(c) || c.Name == "system.views" || c.sum.Documents == 0 {
			continue
		}
		temp, arg := tempUsers, "tempUsersCollection"
		if c.Name == "system.roles" {
			temp, arg = tempRoles, "tempRolesCollection"
		}
		any = true
		cmd.Str(arg, "admin."+temp)
		defer func() {
			// They hold credentials: also when the restore is being stopped.
			err = errors.Join(err, r.target.Drop(context.WithoutCancel(ctx), "admin."+temp))
		}()
		if err := r.loadTemp(ctx, c, "admin."+temp); err != nil {
			return err
		}
	}
	if !any {
		return nil
	}
	_, err = r.env.command(ctx, "admin", cmd.Str("db", "").Bool("drop", false).AppendDoc("writeConcern", bson.D("w", "majority")).Finish())
	if err != nil {
		return fmt.Errorf("restoring users and roles: %w (--no-users leaves them out)", err)
	}
	return nil
}

func (r *restorer) loadTemp(ctx context.Context, c *catalogEntry, ns string) error {
	if err := r.target.Drop(ctx, ns); err != nil {
		return err
	}
	ref, ok := stream(r.p.state.Manifests[r.p.Chain.Full.ID], c.stream)
	if !ok {
		return &ChainError{r.p.Chain.Full.ID, "it has no stream " + c.stream}
	}
	in, err := r.env.Repo.Open(ctx, ref)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Namespace(), err)
	}
	one := load.Target{Client: r.env.Client, Workers: 1}
	_, err = one.Insert(ctx, ns, in, false, func(int64) {})
	return errors.Join(err, in.Close())
}

// hasCode reports whether a server's error has a code.
func hasCode(err error, code int) bool {
	var se mongo.ServerError
	return errors.As(err, &se) && se.HasErrorCode(code)
}
