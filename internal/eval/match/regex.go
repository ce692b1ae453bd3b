package match

import (
	"errors"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/regex"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Regex matches strings that fit a pattern, and the same regular expression stored as
// a value.
type Regex struct {
	Path             *Path
	Pattern, Options string

	prog *regex.Program
}

func newRegex(path *Path, r bson.Regex) (*Regex, error) {
	// Clone: programs outlive the command's buffer, patterns are small.
	n := &Regex{Path: path, Pattern: strings.Clone(r.Pattern), Options: strings.Clone(r.Options)}
	if strings.IndexByte(n.Pattern, 0) >= 0 {
		return nil, badValue("Regular expression cannot contain an embedded null byte")
	}
	if strings.IndexByte(n.Options, 0) >= 0 {
		return nil, badValue("Regular expression options string cannot contain an embedded null byte")
	}
	for _, c := range n.Options {
		if !strings.ContainsRune(regex.Options, c) {
			return nil, mongoerr.New(51108, "invalid flag in regex options: %c", c)
		}
	}
	p, err := regex.Compile(n.Pattern, n.Options)
	if err != nil {
		return nil, mongoerr.New(51091, "Regular expression is invalid: %s", regex.Message(err))
	}
	n.prog = p
	return n, nil
}

func (n *Regex) matchString(s string) (bool, error) {
	ok, err := n.prog.MatchString(s)
	if err != nil {
		return false, mongoerr.New(51156, "Error occurred while executing regular expression. Result code: match limit exceeded")
	}
	return ok, nil
}

func parseRegex(_ *parser, _ string, path *Path, arg bson.Value, all bson.Raw) (Node, error) {
	opts := all.Get("$options")
	var r bson.Regex
	switch arg.Type {
	case bson.TypeString:
		r.Pattern = arg.Str()
	case bson.TypeRegex:
		r = arg.Regex()
	default:
		return nil, badValue("$regex has to be a string")
	}
	if !opts.IsMissing() {
		if opts.Type != bson.TypeString {
			return nil, badValue("$options has to be a string")
		}
		if r.Options != "" {
			return nil, mongoerr.New(51075, "options set in both $regex and $options")
		}
		r.Options = opts.Str()
	}
	return newRegex(path, r)
}

func parseOptions(_ *parser, _ string, _ *Path, _ bson.Value, all bson.Raw) (Node, error) {
	if all.Has("$regex") {
		return nil, nil // read together with $regex
	}
	return nil, badValue("$options needs a $regex")
}

func typeMismatch(format string, args ...any) error {
	return mongoerr.New(mongoerr.TypeMismatch, format, args...)
}

// message returns the text of an error without its code name.
func message(err error) string {
	var e *mongoerr.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}
