package command

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

var validateCommands = []Command{
	{Name: "validate", Flags: Read, Run: runValidate, Args: []Arg{{"full", TBoolLike, false}, {"repair", TBoolLike, false}, {"metadata", TBoolLike, false},
		{"checkBSONConformance", TBoolLike, false}, {"background", TBoolLike, false}, {"fixMultikey", TBoolLike, false}, {"enforceFastCount", TBoolLike, false},
		{"scandata", TBoolLike, false}}, // of older clients; the data is always scanned
		Help: "Checks a collection's documents, indexes and counters against each other."},
	{Name: "dbHash", Aliases: []string{"dbhash"}, Flags: Read, Run: runDBHash, Args: []Arg{{"collections", TArray, false}}, Help: "Hashes the documents of a database's collections."},
}

func runValidate(c *Ctx) error {
	_, name := c.first()
	coll, _, err := c.lookupSeries()
	if mongoerr.Is(err, mongoerr.NamespaceNotFound) {
		return mongoerr.New(mongoerr.NamespaceNotFound, "Collection '%s.%s' does not exist to validate.", c.DB, name.Str())
	}
	if err != nil {
		return err
	}
	if c.ArgBool("repair", false) || c.ArgBool("fixMultikey", false) {
		return mongoerr.New(mongoerr.CommandNotSupported, "validate does not repair in this version of Cairn: restore a backup, or rebuild the indexes")
	}
	if c.ArgBool("background", false) && c.ArgBool("full", false) {
		return mongoerr.New(mongoerr.InvalidOptions, "Running the validate command with both { background: true } and { full: true } is not supported.")
	}
	for _, arg := range []string{"metadata", "checkBSONConformance"} {
		if c.ArgBool(arg, false) {
			return mongoerr.New(mongoerr.CommandNotSupported, "validate's %s is not supported by this version of Cairn", arg)
		}
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	res, err := coll.Validate(ctx, c.ArgBool("full", false))
	if err != nil {
		return err
	}
	b := c.Reply
	b.Str("ns", coll.NS.String()).UUID("uuid", coll.UUID).Int64("nInvalidDocuments", res.InvalidDocuments).Int64("nNonCompliantDocuments", 0).
		IntOrLong("nrecords", res.Records).Int32("nIndexes", int32(len(res.Indexes)))
	b.Doc("keysPerIndex")
	for _, ix := range res.Indexes {
		b.IntOrLong(ix.Name, ix.Keys)
	}
	b.End().Doc("indexDetails")
	for _, ix := range res.Indexes {
		b.Doc(ix.Name).Bool("valid", len(ix.Errors) == 0)
		if len(ix.Errors) > 0 {
			b.Any("errors", ix.Errors)
		}
		b.End()
	}
	b.End().Bool("valid", res.Valid()).Bool("repaired", false).Any("warnings", nonNil(res.Warnings)).Any("errors", nonNil(res.Errors)).
		Any("extraIndexEntries", res.Extra).Any("missingIndexEntries", res.Missing).Array("corruptRecords").End()
	return nil
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// runDBHash hashes each collection's documents in the order of _id with MD5, as MongoDB does.
func runDBHash(c *Ctx) error {
	start := c.Node.Clock()
	var only []string
	for v := range c.Arg("collections").Doc().Values() {
		if v.Type != bson.TypeString {
			return mongoerr.New(mongoerr.BadValue, "collections entries have to be strings")
		}
		only = append(only, v.Str())
	}
	ctx, cancel := c.Op.Context()
	defer cancel()
	res, err := c.Node.Catalog.Hash(ctx, c.DB, only)
	if err != nil {
		return err
	}
	b := c.Reply
	b.Str("host", c.Node.Host.Hostname).Doc("collections")
	for _, h := range res.Collections {
		b.Str(h.Name, h.MD5)
	}
	b.End().Any("capped", nonNil(res.Capped)).Doc("uuids")
	for _, h := range res.Collections {
		b.UUID(h.Name, h.UUID)
	}
	b.End().Str("md5", res.MD5).IntOrLong("timeMillis", c.Node.Clock().Sub(start).Milliseconds())
	return nil
}
