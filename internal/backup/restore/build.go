package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cairndb/cairn/internal/backup/tool"
)

// buildIndexes builds what the catalog holds, one createIndexes a collection, several
// collections at once.
func (r *Restore) buildIndexes(ctx context.Context) error {
	if r.o.Output.NoIndexRestore {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan string)
	var wg sync.WaitGroup
	for range r.o.Output.NumParallelCollections {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for ns := range todo {
				if err := r.buildIndexesOf(ctx, ns); err != nil {
					cancel(fmt.Errorf("%s: error creating indexes for %s: %w", ns, ns, err))
				}
			}
		}()
	}
	for _, ns := range r.catalog.namespaces() {
		if ctx.Err() != nil {
			break
		}
		todo <- ns
	}
	close(todo)
	wg.Wait()
	return context.Cause(ctx)
}

func (r *Restore) buildIndexesOf(ctx context.Context, ns string) error {
	var specs []bson.D
	for _, s := range r.catalog.specs(ns) {
		if isDefaultID(s) {
			continue // made with the collection
		}
		s, inferred := inferVersions(s)
		if inferred {
			r.log.Info("index %#q lacks \"2dsphereIndexVersion\"; inferring 1", lookup(s, "name"))
		}
		specs = append(specs, s)
	}
	if len(specs) == 0 {
		r.say("no indexes to restore for collection %#q", ns)
		return nil
	}
	db, coll := tool.SplitNamespace(ns)
	if there, err := r.exists(ctx, db, coll); err != nil {
		return err
	} else if !there && !r.o.Original {
		r.log.Info("collection %#q is not there any more, its indexes are not built", ns)
		return nil
	}
	r.log.Always("restoring indexes for collection %#q from metadata", ns)
	if r.o.Output.ConvertLegacyIndexes {
		specs = convertLegacy(specs, ns, !r.server.AtLeast(4, 1, 9), r.log.Always)
	}
	if r.o.Output.FixDottedHashedIndexes {
		specs = fixDottedHash(specs)
	}
	var names []string
	for i, s := range specs {
		s = without(plainV1(s), "ns")
		name, _ := lookup(s, "name").(string)
		if !r.server.AtLeast(4, 2, 0) {
			if full := ns + ".$" + name; len(full) > 127 {
				return fmt.Errorf("cannot restore index with namespace %#q: namespace is too long (max size is 127 bytes)", full)
			}
			s = append(s, bson.E{Key: "ns", Value: ns})
		}
		if !r.o.Output.KeepIndexVersion {
			s = without(s, "v")
		}
		names = append(names, name)
		specs[i] = s
		r.say("index: %s", jsonText(s))
	}
	r.log.Info("\trun create Index command for indexes: %v", strings.Join(names, ", "))
	cmd := bson.D{{Key: "createIndexes", Value: coll}, {Key: "indexes", Value: specs}}
	if r.server.AtLeast(4, 1, 9) {
		cmd = append(cmd, bson.E{Key: "ignoreUnknownIndexOptions", Value: true})
	}
	if !r.o.Original {
		cmd = append(cmd, bson.E{Key: "writeConcern", Value: r.writeConcern()})
	}
	err := r.command(ctx, db, cmd)
	if err == nil {
		return nil
	}
	if context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	var ce mongo.CommandError
	if errors.As(err, &ce) && ce.Code == codeDuplicateKey && !r.o.Original {
		return fmt.Errorf("createIndex error: %w; the documents are restored, remove the duplicates and create the %s %s by hand",
			err, tool.Plural(int64(len(names)), "index", "indexes"), strings.Join(names, ", "))
	}
	return fmt.Errorf("createIndex error: %w", err)
}
