package expr

import (
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the zones come with the binary

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// zones remembers loaded time zones; loading parses the zone's whole table.
var zones sync.Map

// zone returns the time zone of a name or an offset (+hh, +hhmm, +hh:mm).
func zone(name string) (*time.Location, error) {
	switch name {
	case "", "UTC", "GMT", "Z":
		if name != "" {
			return time.UTC, nil
		}
		return nil, errZone(name)
	}
	if l, ok := zones.Load(name); ok {
		return l.(*time.Location), nil
	}
	l := offsetZone(name)
	if l == nil {
		if name == "Local" || strings.HasPrefix(name, "+") || strings.HasPrefix(name, "-") {
			return nil, errZone(name)
		}
		var err error
		if l, err = time.LoadLocation(name); err != nil {
			return nil, errZone(name)
		}
	}
	zones.Store(name, l)
	return l, nil
}

func errZone(name string) error {
	return mongoerr.New(40485, "unrecognized time zone identifier: \"%s\"", name)
}

func offsetZone(s string) *time.Location {
	if len(s) < 3 || s[0] != '+' && s[0] != '-' {
		return nil
	}
	d := strings.Replace(s[1:], ":", "", 1)
	if len(d) != 2 && len(d) != 4 || len(d) == 2 && len(s) != 3 {
		return nil
	}
	n := 0
	for i := 0; i < len(d); i++ {
		if d[i] < '0' || d[i] > '9' {
			return nil
		}
		n = n*10 + int(d[i]-'0')
	}
	if len(d) == 2 {
		n *= 100
	}
	sec := (n/100*60 + n%100) * 60
	if s[0] == '-' {
		sec = -sec
	}
	return time.FixedZone(s, sec)
}

// zoneOf evaluates a timezone operand; nil for null.
func zoneOf(v bson.Value, given bool) (*time.Location, error) {
	if !given {
		return time.UTC, nil
	}
	if v.IsNullish() {
		return nil, nil
	}
	if v.Type != bson.TypeString {
		return nil, mongoerr.New(40517, "timezone must evaluate to a string, found %s", v.Type)
	}
	return zone(v.Str())
}
