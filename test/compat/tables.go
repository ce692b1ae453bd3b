package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/catalog"
	"github.com/cairndb/cairn/internal/command"
	"github.com/cairndb/cairn/internal/eval/accum"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/eval/match"
	"github.com/cairndb/cairn/internal/eval/project"
	"github.com/cairndb/cairn/internal/eval/update"
	"github.com/cairndb/cairn/internal/node"
	"github.com/cairndb/cairn/internal/query/pipeline"
)

func sections() ([]section, error) {
	params, err := parameters()
	if err != nil {
		return nil, err
	}
	return []section{
		{"Commands", "An unknown field of a command is error 40415; a name that MongoDB 8.0 does not know either is `CommandNotFound` 59.",
			"`CommandNotSupported` 115 with the reason", commands()},
		{"Filter operators", "", "`BadValue` 2, \"unknown operator\"", rows(match.Table(), func(r match.Row) entry {
			return entry{name: r.Name, since: r.Since, help: r.Help, missing: r.Status == match.Missing}
		})},
		{"Keywords of $jsonSchema", "Those of MongoDB, in filters and validators.", "`FailedToParse` 9, \"Unknown $jsonSchema keyword\", or what is not supported by its name", schemaKeywords()},
		{"Projection operators", "Beside inclusion, exclusion and every expression.", "an error that names it", projections()},
		{"Update operators", "Beside replacement documents and pipelines.", "`FailedToParse` 9, \"Unknown modifier\"", rows(update.Table(), func(r update.Row) entry {
			return entry{name: r.Name, since: r.Since, help: r.Help, missing: r.Status == update.Missing}
		})},
		{"Aggregation stages", "", "error 40324, \"Unrecognized pipeline stage name\"", rows(pipeline.Table(), func(r pipeline.Row) entry {
			return entry{name: r.Name, since: r.Since, help: r.Help, missing: r.Status == expr.Missing}
		})},
		{"Expressions", "", "`InvalidPipelineOperator` 168 or 31325, \"Unrecognized expression\"", rows(expr.Table(), func(r expr.Op) entry {
			return entry{name: r.Name, since: r.Since, help: r.Help, missing: r.Status == expr.Missing}
		})},
		{"Accumulators", "", "error 15952, \"unknown group operator\"", rows(accum.Table(), func(r accum.Op) entry {
			return entry{name: r.Name, since: r.Since, help: r.Help, missing: r.Status == expr.Missing}
		})},
		{"Index kinds", "Indexes with a collation need its tables, see QUERY.md. Without them they are kept as the kinds below are.",
			"`CannotCreateIndex` 67 for a unique one; any other is *kept*: checked, filled in, listed, dumped and restored with all its options, named in the `note` of " +
				"createIndexes' reply, without entries and used by no plan. A hint at it, `$text`, `$near`, `$nearSphere` and `$geoNear` give MongoDB's error for an index that is not there", indexKinds()},
		{"Server parameters", "", "`InvalidOptions` 72", params},
		{"Command line options", "Of `cairn serve`, and of a link named `mongod`. Every other option or setting of mongod is refused by name with exit code 2.", "", options()},
	}, nil
}

// rows folds neighbours of one name: a filter operator may have a row for the top and one for fields.
func rows[T any](table []T, convert func(T) entry) []entry {
	var out []entry
	for _, r := range table {
		e := convert(r)
		if n := len(out); n > 0 && out[n-1].name == e.name {
			out[n-1].missing = out[n-1].missing && e.missing
			continue
		}
		out = append(out, e)
	}
	return out
}

func commands() []entry {
	return rows(command.NewTable(command.All()...).Rows(), func(c *command.Command) entry {
		var notes []string
		for _, f := range []struct {
			flag command.Flag
			text string
		}{
			{command.AdminOnly, "admin database"}, {command.V1, "stable API"}, {command.Txn, "retryable"},
			{command.TestOnly, "needs `enableTestCommands=1`"},
		} {
			if c.Has(f.flag) && !c.Has(command.Unbuilt) {
				notes = append(notes, f.text)
			}
		}
		if len(c.Aliases) > 0 {
			notes = append(notes, "also `"+strings.Join(c.Aliases, "`, `")+"`")
		}
		if c.Note != "" {
			notes = append(notes, c.Note)
		}
		return entry{name: c.Name, help: c.Help, note: strings.Join(notes, "; "), missing: c.Has(command.Unbuilt)}
	})
}

func schemaKeywords() []entry {
	return rows(match.SchemaTable(), func(r match.Row) entry {
		return entry{name: r.Name, help: r.Help, missing: r.Status == match.Missing}
	})
}

// example is a feature without a row of its own in a table: an example of it is what tells
// whether it is built.
type example struct {
	name, since, help string
	spec              bson.Raw
}

func ask(examples []example, accepts func(bson.Raw) error) []entry {
	var out []entry
	for _, x := range examples {
		e := entry{name: x.name, since: x.since, help: x.help}
		if err := accepts(x.spec); err != nil {
			e.missing = true
		}
		out = append(out, e)
	}
	return out
}

func projections() []entry {
	filter, err := match.Parse(bson.D("a", 1), match.Options{})
	if err != nil {
		panic(err)
	}
	return ask([]example{
		{"$", "2.0", "the first array element that the filter matched", bson.D("a.$", 1)},
		{"$elemMatch", "2.2", "the first array element that matches a filter", bson.D("a", bson.D("$elemMatch", bson.D("b", 1)))},
		{"$meta: indexKey", "4.4", "the entry of the index that found the document", bson.D("k", bson.D("$meta", "indexKey"))},
		{"$meta: recordId", "4.4", "the record's id", bson.D("k", bson.D("$meta", "recordId"))},
		{"$meta: sortKey", "4.4", "what the document was sorted by", bson.D("k", bson.D("$meta", "sortKey"))},
		{"$meta: textScore", "2.6", "the score of a text search", bson.D("k", bson.D("$meta", "textScore"))},
		{"$slice", "2.0", "a part of an array", bson.D("a", bson.D("$slice", 2))},
	}, func(spec bson.Raw) error {
		_, err := project.Parse(spec, project.Options{Filter: filter, Expr: &expr.ParseContext{}})
		return err
	})
}

func indexKinds() []entry {
	index := func(key bson.Raw, more ...any) bson.Raw {
		return bson.D(append([]any{"v", 2, "key", key, "name", "i"}, more...)...)
	}
	a := bson.D("a", 1)
	return ask([]example{
		{"single field, ascending or descending", "2.0", "on one field or path", index(bson.D("a.b", -1))},
		{"compound", "2.0", "on up to 32 fields, each in its direction", index(bson.D("a", 1, "b", -1))},
		{"multikey", "2.0", "any index, once an array is indexed: an entry for each element", index(a)},
		{"unique", "2.0", "no two documents with one key", index(a, "unique", true)},
		{"sparse", "2.0", "only documents with the field", index(a, "sparse", true)},
		{"partial", "3.2", "only documents that match a filter", index(a, "partialFilterExpression", bson.D("b", bson.D("$gt", 1)))},
		{"TTL", "2.2", "documents expire", index(a, "expireAfterSeconds", 10)},
		{"hidden", "4.4", "kept up to date and not used", index(a, "hidden", true)},
		{"hashed", "2.4", "on the hash of a value", index(bson.D("a", "hashed"))},
		{"text", "2.4", "on words", index(bson.D("a", "text"))},
		{"2d", "2.0", "on points of a plane", index(bson.D("a", "2d"))},
		{"2dsphere", "2.4", "on GeoJSON", index(bson.D("a", "2dsphere"))},
		{"wildcard", "4.2", "on all paths below one", index(bson.D("a.$**", 1))},
		{"clustered", "5.3", "what create's `clusteredIndex` made; the records keep their own order below an index on _id", index(bson.D("_id", 1), "clustered", true, "unique", true)},
		{"with a collation", "3.4", "in the order of a language", index(a, "collation", bson.D("locale", "de"))},
	}, func(spec bson.Raw) error {
		s, err := catalog.ParseIndexSpec(spec)
		if err == nil && s.Kept() {
			err = errKept
		}
		return err
	})
}

// errKept is for kinds that are taken but have no engine.
var errKept = errors.New("kept without an engine")

// parameters asks a node in memory, as each room adds its own.
func parameters() ([]entry, error) {
	n, err := node.Start(context.Background(), node.Config{InMemory: true, Embedded: true, NoTCP: true, NoUnixSocket: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	out := rows(n.Parameters(), func(p command.Parameter) entry {
		note := "read only"
		switch {
		case p.Set != nil && p.Startup:
			note = "at start and while running"
		case p.Set != nil:
			note = "while running"
		case p.Startup:
			note = "at start"
		}
		return entry{name: p.Name, help: p.Help, note: note}
	})
	return out, n.Close()
}

func options() []entry {
	return rows(node.Options, func(o node.Option) entry {
		e := entry{name: "--" + o.Flag, help: o.Help}
		switch {
		case o.Flag == "":
			e.name, e.note = o.Key, "configuration file only"
		case o.Key != "":
			e.note = "`" + o.Key + "`"
		}
		return e
	})
}
