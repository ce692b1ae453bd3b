package command

import (
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
)

// Flag says how a command is treated before it runs.
type Flag uint32

// The flags of a row.
const (
	AdminOnly  Flag = 1 << iota // refused outside the admin database
	Write                       // takes writeConcern, counted as a write, refused while fsyncLocked
	Read                        // takes readConcern
	Hello                       // allowed in OP_QUERY and before the handshake
	V1                          // part of the stable API version 1
	NoSession                   // refuses no session arguments but keeps none alive
	Txn                         // may take txnNumber (retryable or in a transaction)
	Exhaust                     // may be asked to stream replies
	Unbuilt                     // known to MongoDB, not built here: CommandNotSupported
	Deprecated                  // in version 1 of the API, for the last time: refused with apiDeprecationErrors
	TestOnly                    // only with enableTestCommands=1
	Quiet                       // left out of currentOp and the profiler
	AnyArgs                     // its fields are data: the command checks them itself
	Secret                      // has a password, which currentOp, the profiler and logs do not show
)

// Command is one row of the table.
type Command struct {
	Name    string
	Aliases []string
	Flags   Flag
	Args    []Arg // besides the command's own name and the generic arguments
	// Unstable are the arguments that apiStrict refuses.
	Unstable []string
	Run      func(*Ctx) error
	// Filter is the filter that the command will look for documents by, if it is known early.
	// The types of the arguments have not been checked when it is asked for.
	Filter func(*Ctx) bson.Value
	Help   string // one sentence, shown by listCommands and COMPATIBILITY.md
	Note   string // limits of what is built, or the reason of Unbuilt
}

// Arg is one argument of a command.
type Arg struct {
	Name     string
	Types    Types
	Required bool
}

// field names an argument as MongoDB's messages do: find alone goes by the name of its request.
func (c *Command) field(name string) string {
	if c.Name == "find" {
		return "FindCommandRequest." + name
	}
	return c.Name + "." + name
}

// Has reports whether all bits of f are set.
func (c *Command) Has(f Flag) bool { return c.Flags&f == f }

// arg returns the place of an argument in the row, -1 if it is none.
func (c *Command) arg(name string) int {
	for i := range c.Args {
		if c.Args[i].Name == name {
			return i
		}
	}
	return -1
}

// Table is a lookup over rows.
type Table struct {
	byName map[string]*Command
	rows   []*Command
}

// NewTable joins groups of rows; two rows of one name panic, as that is a programming error.
func NewTable(groups ...[]Command) *Table {
	t := &Table{byName: map[string]*Command{}}
	for _, g := range groups {
		for i := range g {
			c := &g[i]
			t.rows = append(t.rows, c)
			for _, n := range append([]string{c.Name}, c.Aliases...) {
				if t.byName[n] != nil {
					panic("command: two rows named " + n)
				}
				t.byName[n] = c
			}
		}
	}
	slices.SortFunc(t.rows, func(a, b *Command) int { return strings.Compare(a.Name, b.Name) })
	return t
}

// Lookup returns the row of a command name, which is case sensitive, or nil.
func (t *Table) Lookup(name string) *Command { return t.byName[name] }

// Rows returns all rows by name.
func (t *Table) Rows() []*Command { return t.rows }
