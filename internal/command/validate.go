package command

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

var validateCommands = []Command{
	{Name: "dbHash", Aliases: []string{"dbhash"}, Flags: Read, Run: runDBHash, Args: []Arg{{"collections", TArray, false}}, Help: "Hashes the documents of a database's collections."},
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
