package pitr

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	dbson "go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cairndb/cairn/internal/backup/pitr/docsum"
	"github.com/cairndb/cairn/internal/backup/pitr/expect"
	"github.com/cairndb/cairn/internal/backup/pitr/load"
	"github.com/cairndb/cairn/internal/backup/tool"
	"github.com/cairndb/cairn/internal/bson"
)

// Comparison is what was compared with what a restored server holds.
type Comparison struct {
	// Collections were compared as a whole, by count and hash, with the manifest.
	Collections int
	// Documents were compared one by one with what their last oplog entry says, in TouchedCollections.
	Documents          int64
	TouchedCollections int
	// Sampled tells that not all documents that the oplog wrote were looked at.
	Sampled bool
	// Source are collections that were compared as a whole with the server that was backed up.
	Source int
	// Skipped are collections that could not be compared, with the reason.
	Skipped []string
	// Differences say what is not as it must be; none is the aim.
	Differences []string
}

// maxDifferences bounds how many are listed.
const maxDifferences = 100

func (c *Comparison) differ(format string, args ...any) {
	if len(c.Differences) < maxDifferences {
		c.Differences = append(c.Differences, fmt.Sprintf(format, args...))
	}
}

// DifferError is a comparison that found differences.
type DifferError struct{ Comparison Comparison }

func (e *DifferError) Error() string {
	return fmt.Sprintf("what was restored is not what it must be: %s", strings.Join(e.Comparison.Differences, "; "))
}

// verify compares the target with what is known of the moment.
func (r *restorer) verify(ctx context.Context) (*Comparison, error) {
	c := &Comparison{Sampled: r.expect.Sampled()}
	whole := r.expect.Whole()
	names := make([]string, 0, len(whole))
	for ns := range whole {
		names = append(names, ns)
	}
	slices.Sort(names)
	for _, ns := range names {
		add, done := r.env.bar("comparing "+ns, whole[ns].Documents)
		got, err := r.target.Sum(ctx, ns)
		add(got.Documents)
		done()
		if err != nil {
			return nil, err
		}
		c.Collections++
		if want := whole[ns]; !got.Equal(want) {
			c.differ("%s", sumsDiffer(ns, got, want, "the backup"))
		}
	}
	for _, ns := range r.expect.Touched() {
		if isSystem(ns) {
			continue
		}
		docs := r.expect.Documents(ns)
		if err := compareDocuments(ctx, r.target, ns, docs, c); err != nil {
			return nil, err
		}
		c.Documents += int64(len(docs))
		c.TouchedCollections++
	}
	return c, nil
}

func isSystem(ns string) bool {
	db, coll, _ := strings.Cut(ns, ".")
	return coll == "system.views" || db == "admin" && strings.HasPrefix(coll, "system.") || db == "config" || db == "local"
}

func sumsDiffer(ns string, got, want docsum.Sum, who string) string {
	if got.Documents != want.Documents {
		return fmt.Sprintf("%s has %s, %s has %d", ns, tool.Count(got.Documents, "document", "documents"), who, want.Documents)
	}
	return fmt.Sprintf("%s has as many documents as %s (%d), but their hash is %s, not %s", ns, who, got.Documents, got.Hash(), want.Hash())
}

// compareDocuments looks up documents by _id.
func compareDocuments(ctx context.Context, t *load.Target, ns string, docs map[string]expect.State, c *Comparison) error {
	const batch = 1000
	var ids []bson.Value
	left := len(docs)
	for _, d := range docs {
		ids = append(ids, d.ID)
		left--
		if len(ids) < batch && left > 0 {
			continue
		}
		if err := compareBatch(ctx, t, ns, ids, docs, c); err != nil {
			return err
		}
		ids = ids[:0]
	}
	return nil
}

func compareBatch(ctx context.Context, t *load.Target, ns string, ids []bson.Value, docs map[string]expect.State, c *Comparison) error {
	db, coll, _ := strings.Cut(ns, ".")
	filter := bson.NewBuilder(nil)
	filter.Doc("_id").Array("$in")
	for _, id := range ids {
		filter.Append("", id)
	}
	cur, err := t.Client.Database(db).Collection(coll).Find(ctx, dbson.Raw(filter.End().End().Finish()))
	if err != nil {
		return fmt.Errorf("comparing %s: %w", ns, err)
	}
	defer cur.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the server ends idle cursors by itself
	found := map[string]bool{}
	for cur.Next(ctx) {
		doc := bson.Raw(cur.Current)
		id := doc.Get("_id")
		key := expect.Key(id)
		want, known := docs[key]
		if !known {
			continue // an _id that equals another in value but not in type
		}
		found[key] = true
		switch {
		case want.Absent:
			c.differ("%s: the document with _id %s was deleted before the moment, but is there", ns, id)
		case want.Known && sha256.Sum256(doc) != want.Hash:
			c.differ("%s: the document with _id %s is not as its last entry says", ns, id)
		}
	}
	if err := cur.Err(); err != nil {
		return fmt.Errorf("comparing %s: %w", ns, err)
	}
	for _, id := range ids {
		if key := expect.Key(id); !found[key] && !docs[key].Absent {
			c.differ("%s: the document with _id %s is missing", ns, id)
		}
	}
	return nil
}
