package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/cairndb/cairn/internal/node"
)

// parseArgs reads a command line in mongod's form (--flag value, --flag=value, -v,
// -vv, -f FILE) into settings, the configuration file included: what stands on the
// command line wins over the file.
func parseArgs(args []string) (s *node.Settings, help bool, err error) {
	s = &node.Settings{}
	given := map[string]bool{}
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "-h" || a == "--help" || a == "-?" {
			return s, true, nil
		}
		if strings.HasPrefix(a, "-v") && strings.Trim(a, "v") == "-" {
			s.Verbosity = len(a) - 1
			given["verbose"] = true
			continue
		}
		if a == "-f" {
			a = "--config"
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if !strings.HasPrefix(a, "--") {
			return nil, false, fmt.Errorf("unrecognised option %q", a)
		}
		o := node.OptionByFlag(name)
		if o == nil {
			return nil, false, fmt.Errorf("unrecognised option '--%s': it is not supported by this version of Cairn", name)
		}
		if given[name] && !o.Multi {
			return nil, false, fmt.Errorf("option '--%s' cannot be specified more than once", name)
		}
		given[name] = true
		switch {
		case hasValue:
		case o.Bool:
			value = "true"
		case name == "verbose" && (i+1 == len(args) || strings.HasPrefix(args[i+1], "-")):
			value = "1"
		case i+1 == len(args):
			return nil, false, fmt.Errorf("the required argument for option '--%s' is missing", name)
		default:
			i++
			value = args[i]
		}
		if err := o.Set(s, value); err != nil {
			return nil, false, fmt.Errorf("--%s: %w", name, err)
		}
	}
	if s.ConfigFile != "" {
		if err := s.LoadFile(s.ConfigFile, given); err != nil {
			return nil, false, err
		}
	}
	return s, false, nil
}

// optionsHelp lists the options for --help.
func optionsHelp() string {
	var lines []string
	for _, o := range node.Options {
		if o.Flag == "" {
			continue
		}
		arg := ""
		if !o.Bool {
			arg = " arg"
		}
		lines = append(lines, fmt.Sprintf("  --%-28s %s", o.Flag+arg, o.Help))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
