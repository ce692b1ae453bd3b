package command

import (
	"fmt"
	"sort"
	"sync"

	"github.com/cairndb/cairn/internal/auth"
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Parameter is one server parameter: getParameter shows it, setParameter changes it
// if Set is not nil, --setParameter sets it at start if Startup is true.
type Parameter struct {
	Name    string
	Startup bool
	Get     func() any
	Set     func(v bson.Value) error
	Help    string
}

// Parameters is the table of server parameters; node adds the rows of other rooms.
type Parameters struct {
	mu   sync.Mutex
	rows map[string]*Parameter
	test bool
}

// NewParameters returns the parameters that command itself owns.
func NewParameters() *Parameters {
	p := &Parameters{rows: map[string]*Parameter{}}
	p.Add(Parameter{Name: "enableTestCommands", Startup: true, Get: func() any { return p.test }, Help: "allow configureFailPoint"})
	p.Add(Parameter{Name: "featureCompatibilityVersion", Get: func() any { return bson.D("version", auth.FeatureCompatibilityVersion) }, Help: "the MongoDB feature set that is spoken"})
	p.Add(Parameter{Name: "authSchemaVersion", Get: func() any { return auth.SchemaVersion }, Help: "format of users and roles"})
	p.Add(Parameter{Name: "authenticationMechanisms", Get: func() any { return []string{"SCRAM-SHA-1", "SCRAM-SHA-256"} }, Help: "mechanisms that clients may use"})
	p.Add(Parameter{Name: "quiet", Get: func() any { return false }, Help: "log less"})
	return p
}

// TestCommands reports whether enableTestCommands is on.
func (p *Parameters) TestCommands() bool { return p.test }

// Add puts a row into the table, replacing one of the same name.
func (p *Parameters) Add(r Parameter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows[r.Name] = &r
}

// AddInt adds an integer parameter bounded by [lo, hi] that get and set reach.
func (p *Parameters) AddInt(name, help string, lo, hi int64, get func() int64, set func(int64)) {
	p.Add(Parameter{Name: name, Startup: true, Help: help, Get: func() any { return int(get()) }, Set: func(v bson.Value) error {
		n, ok := v.AsInt64()
		if !ok {
			return mongoerr.New(mongoerr.BadValue, "Invalid value for parameter %s: it has to be an integer", name)
		}
		if n < lo || n > hi {
			return mongoerr.New(mongoerr.BadValue, "Invalid value for parameter %s: %d is not between %d and %d", name, n, lo, hi)
		}
		set(n)
		return nil
	}})
}

// AddBool adds a boolean parameter.
func (p *Parameters) AddBool(name, help string, get func() bool, set func(bool)) {
	p.Add(Parameter{Name: name, Startup: true, Help: help, Get: func() any { return get() }, Set: func(v bson.Value) error {
		if v.Type != bson.TypeBool && !v.IsNumber() {
			return mongoerr.New(mongoerr.BadValue, "Invalid value for parameter %s: it has to be a boolean", name)
		}
		set(v.Truthy())
		return nil
	}})
}

// SetAtStart is --setParameter name=value; numbers and true/false are recognised.
func (p *Parameters) SetAtStart(name, value string) error {
	if name == "enableTestCommands" {
		p.test = value == "1" || value == "true"
		return nil
	}
	p.mu.Lock()
	r := p.rows[name]
	p.mu.Unlock()
	if r == nil || !r.Startup || r.Set == nil {
		return fmt.Errorf("there is no parameter %q to set at start", name)
	}
	v := bson.V(value)
	var n int64
	switch {
	case value == "true", value == "false":
		v = bson.V(value == "true")
	default:
		if _, err := fmt.Sscanf(value, "%d", &n); err == nil && fmt.Sprint(n) == value {
			v = bson.V(n)
		}
	}
	return r.Set(v)
}

func (p *Parameters) get(name string) *Parameter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rows[name]
}

// Rows returns all parameters by name.
func (p *Parameters) Rows() []Parameter {
	var out []Parameter
	for _, name := range p.names() {
		out = append(out, *p.get(name))
	}
	return out
}

func (p *Parameters) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make([]string, 0, len(p.rows))
	for n := range p.rows {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
