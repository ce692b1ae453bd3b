package command

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

var parameterCommands = []Command{
	{Name: "getParameter", Flags: AdminOnly | AnyArgs, Run: runGetParameter, Help: "Shows server parameters; {getParameter: '*'} shows all."},
	{Name: "setParameter", Flags: AdminOnly | AnyArgs, Run: runSetParameter, Help: "Changes a server parameter while the server runs."},
}

// parameterArgs walks the fields of getParameter and setParameter that are names of
// parameters: these two commands take any field.
func (c *Ctx) parameterArgs(yield func(name string, v bson.Value) error) (n int, err error) {
	it := c.Body.Iter()
	it.Next()
	for it.Next() {
		if genericArg(it.Key()) >= 0 || it.Key() == "allParameters" {
			continue
		}
		n++
		if err := yield(it.Key(), it.Value()); err != nil {
			return n, err
		}
	}
	return n, nil
}

func runGetParameter(c *Ctx) error {
	_, v := c.first()
	details, all := false, v.Type == bson.TypeString && v.Str() == "*"
	if d := v.Doc(); d != nil {
		details, all = d.Get("showDetails").Truthy(), d.Get("allParameters").Truthy()
	}
	show := func(name string, p *Parameter) {
		if !details {
			c.Reply.Any(name, p.Get())
			return
		}
		c.Reply.Doc(name).Any("value", p.Get()).Bool("settableAtRuntime", p.Set != nil).Bool("settableAtStartup", p.Startup).End()
	}
	if all {
		for _, name := range c.Node.Params.names() {
			show(name, c.Node.Params.get(name))
		}
		return nil
	}
	found := 0
	_, err := c.parameterArgs(func(name string, _ bson.Value) error {
		if p := c.Node.Params.get(name); p != nil {
			found++
			show(name, p)
		}
		return nil
	})
	if err == nil && found == 0 {
		return mongoerr.New(mongoerr.InvalidOptions, "no option found to get")
	}
	return err
}

func runSetParameter(c *Ctx) error {
	found := 0
	n, err := c.parameterArgs(func(name string, v bson.Value) error {
		p := c.Node.Params.get(name)
		if p == nil {
			return mongoerr.New(mongoerr.InvalidOptions, "attempted to set unrecognized parameter [%s], use help:true to see options ", name)
		}
		if p.Set == nil {
			return mongoerr.New(mongoerr.IllegalOperation, "not allowed to change [%s] at runtime", name)
		}
		was := p.Get()
		if err := p.Set(v); err != nil {
			return err
		}
		if found++; found == 1 {
			c.Reply.Any("was", was)
		}
		return nil
	})
	if err == nil && n == 0 {
		return mongoerr.New(mongoerr.InvalidOptions, "no option found to set, use help:true to see options ")
	}
	return err
}
