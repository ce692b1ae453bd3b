package chain

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/bson"
)

// Moment is a parsed --to: a timestamp, everything up to it and including it.
type Moment struct {
	// Latest is the newest restorable moment, whatever it is; TS is then not set.
	Latest bool
	TS     bson.Timestamp
	// Exact says that the increment was given; otherwise TS is the end of a second.
	Exact bool
}

// MomentHelp lists the forms that ParseMoment takes, for --help.
const MomentHelp = `latest, SECONDS:INCREMENT (exact), an RFC 3339 time (2026-11-26T14:00:00Z, 2026-11-26T14:00:00+01:00),
a local time ("2026-11-26 14:00:00", "2026-11-26 14:00", "14:00"), "yesterday 14:00", or a time ago ("90m ago", "1d12h ago")`

var (
	exactForm = regexp.MustCompile(`^(?:Timestamp\()?\s*(\d{1,10})\s*[:,]\s*(\d{1,10})\s*\)?$`)
	agoForm   = regexp.MustCompile(`^-?((?:\d+(?:\.\d+)?\s*[a-z]+\s*)+?)\s*(ago)?$`)
	agoPart   = regexp.MustCompile(`(\d+(?:\.\d+)?)([a-z]+)`)
)

var localForms = []string{
	"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
}

// ParseMoment reads a moment. A time on the clock means the whole of its second; a date without
// a time is refused, because its begin and its end are equally likely meant. now and loc are
// the clock and the zone of local times.
func ParseMoment(text string, now time.Time, loc *time.Location) (Moment, error) {
	s := strings.TrimSpace(text)
	if s == "" {
		return Moment{}, fmt.Errorf("no moment given: use one of %s", MomentHelp)
	}
	if strings.EqualFold(s, "latest") {
		return Moment{Latest: true}, nil
	}
	if m := exactForm.FindStringSubmatch(s); m != nil && !clockForm.MatchString(s) {
		t, err1 := strconv.ParseUint(m[1], 10, 32)
		i, err2 := strconv.ParseUint(m[2], 10, 32)
		if err1 != nil || err2 != nil {
			return Moment{}, fmt.Errorf("%q: seconds and increment are 32-bit numbers", text)
		}
		return Moment{TS: bson.NewTimestamp(uint32(t), uint32(i)), Exact: true}, nil
	}
	at, err := parseClock(s, now, loc)
	if err != nil {
		return Moment{}, fmt.Errorf("%q: %w", text, err)
	}
	if at.Nanosecond() != 0 {
		return Moment{}, fmt.Errorf("%q: an oplog counts whole seconds and increments; give the second, or SECONDS:INCREMENT for a place inside it (find-change shows them)", text)
	}
	if at.Unix() < 0 || at.Unix() > math.MaxUint32 {
		return Moment{}, fmt.Errorf("%q is outside the time that an oplog can have", text)
	}
	return Moment{TS: EndOfSecond(at.Unix())}, nil
}

var clockForm = regexp.MustCompile(`^\d{1,2}:\d{2}$`)

func parseClock(s string, now time.Time, loc *time.Location) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339Nano, strings.Replace(s, " ", "T", 1)); err == nil {
		return at, nil
	}
	for _, form := range localForms {
		at, err := time.ParseInLocation(form, s, loc)
		if err != nil {
			continue
		}
		if form == "2006-01-02" {
			return at, fmt.Errorf("a date alone is not a moment; say %q or %q", s+" 00:00", s+" 23:59:59")
		}
		return at, nil
	}
	day := now.In(loc)
	rest, named := s, false
	for name, back := range map[string]int{"today": 0, "yesterday": -1} {
		if after, ok := strings.CutPrefix(strings.ToLower(s), name+" "); ok {
			rest, day, named = strings.TrimSpace(after), day.AddDate(0, 0, back), true
		}
	}
	for _, form := range []string{"15:04:05", "15:04"} {
		if c, err := time.Parse(form, rest); err == nil {
			return time.Date(day.Year(), day.Month(), day.Day(), c.Hour(), c.Minute(), c.Second(), 0, loc), nil
		}
	}
	if m := agoForm.FindStringSubmatch(strings.ToLower(s)); m != nil && !named {
		d, err := ParseDuration(m[1])
		if err == nil {
			return now.Add(-d).Truncate(time.Second), nil
		}
		return now, err
	}
	return now, fmt.Errorf("not a moment; use one of %s", MomentHelp)
}

// units of durations as people write them for retention; a month is 30 days, a year 365.
var units = map[string]time.Duration{
	"s": time.Second, "sec": time.Second, "m": time.Minute, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	"day": 24 * time.Hour, "days": 24 * time.Hour, "w": 7 * 24 * time.Hour, "mo": 30 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
	"hour": time.Hour, "hours": time.Hour, "week": 7 * 24 * time.Hour, "weeks": 7 * 24 * time.Hour, "minute": time.Minute, "minutes": time.Minute, "second": time.Second, "seconds": time.Second,
}

// ParseDuration reads sums such as 90m, 1d12h, 2w, 1y6mo.
func ParseDuration(text string) (time.Duration, error) {
	s := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(text)), " ", "")
	var sum time.Duration
	parts := agoPart.FindAllStringSubmatchIndex(s, -1)
	end := 0
	for _, p := range parts {
		unit, ok := units[s[p[4]:p[5]]]
		if p[0] != end || !ok {
			break
		}
		n, err := strconv.ParseFloat(s[p[2]:p[3]], 64)
		if err != nil || n*float64(unit) > math.MaxInt64/2 {
			return 0, fmt.Errorf("%q is too long a duration", text)
		}
		sum += time.Duration(n * float64(unit))
		end = p[1]
	}
	if end != len(s) || len(parts) == 0 {
		return 0, fmt.Errorf("%q is not a duration such as 90m, 12h, 7d, 2w, 6mo, 1y", text)
	}
	return sum, nil
}
