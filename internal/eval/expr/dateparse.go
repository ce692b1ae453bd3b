package expr

import (
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

const readSpecifiers = "bBdGHjLmMSuVYzZ%"

// freeLayouts are the forms of a date that are read without a format string, longest
// first; what follows (a zone) is read apart.
var freeLayouts = []string{
	"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04",
	"2006-01-02T15", "2006-01-02 15", "2006-01-02", "2006-1-2", "2006/01/02 15:04:05", "2006/01/02", "2006/1/2",
	"20060102T150405", "20060102", "2006-01",
	"01/02/2006 15:04:05", "01/02/2006", "1/2/2006",
	"January 2, 2006 15:04:05", "January 2, 2006", "Jan 2, 2006 15:04:05", "Jan 2, 2006", "January 2 2006", "Jan 2 2006",
	"2 January 2006 15:04:05", "2 January 2006", "2 Jan 2006 15:04:05", "2 Jan 2006",
	"Mon, 02 Jan 2006 15:04:05", "Mon Jan 2 15:04:05 2006", "Mon Jan 2 2006 15:04:05",
}

// parseDate reads a date string: in one of the free forms, or by a format. loc is the
// zone of a string that names none; nil is UTC.
func parseDate(s, format string, loc *time.Location) (bson.DateTime, error) {
	if format != "" {
		return parseDateFormat(s, format, loc)
	}
	if s == "" {
		return 0, conversionError("Error parsing date string '%s'; 0: Empty string '\x00'", s)
	}
	body, off := splitZone(strings.TrimSpace(s))
	if off != nil && loc != nil {
		return 0, conversionError("you cannot pass in a date/time string with GMT offset together with a timezone argument")
	}
	where := loc
	if off != nil {
		where = off
	}
	if where == nil {
		where = time.UTC
	}
	for _, layout := range freeLayouts {
		if t, err := time.ParseInLocation(layout, body, where); err == nil {
			return bson.DateTime(t.UnixMilli()), nil
		}
	}
	if len(body) < 5 {
		return 0, conversionError("an incomplete date/time string has been found, with elements missing: \"%s\"", s)
	}
	return 0, conversionError("Error parsing date string '%s'; 0: Unexpected character '%s'", s, s[:1])
}

// splitZone takes a zone off the end of a date string: Z, UTC, GMT, ±hh, ±hhmm, ±hh:mm.
func splitZone(s string) (string, *time.Location) {
	for _, z := range []string{"Z", "z", "UTC", "GMT"} {
		if body, ok := strings.CutSuffix(s, z); ok && len(body) > 4 && (body[len(body)-1] == ' ' || z == "Z" || z == "z" || isDigit(body[len(body)-1])) {
			return strings.TrimSpace(body), time.UTC
		}
	}
	colon := strings.IndexByte(s, ':')
	if colon < 0 {
		return s, nil
	}
	i := strings.LastIndexAny(s, "+-")
	if i < colon {
		return s, nil
	}
	if z := offsetZone(s[i:]); z != nil {
		return strings.TrimSpace(s[:i]), z
	}
	return s, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// dateReader reads a string by a format.
type dateReader struct {
	s   string
	pos int
}

func (r *dateReader) number(minDigits, maxDigits int) (int, bool) {
	n, k := 0, 0
	for k < maxDigits && r.pos < len(r.s) && isDigit(r.s[r.pos]) {
		n = n*10 + int(r.s[r.pos]-'0')
		r.pos++
		k++
	}
	return n, k >= minDigits
}

func (r *dateReader) month() (int, bool) {
	for m := time.January; m <= time.December; m++ {
		for _, name := range []string{m.String(), m.String()[:3]} {
			if len(r.s)-r.pos >= len(name) && strings.EqualFold(r.s[r.pos:r.pos+len(name)], name) {
				r.pos += len(name)
				return int(m), true
			}
		}
	}
	return 0, false
}

func parseDateFormat(s, format string, loc *time.Location) (bson.DateTime, error) {
	if err := checkFormat(format, readSpecifiers); err != nil {
		return 0, err
	}
	r := &dateReader{s: s}
	v := map[byte]int{}
	zoned := false
	fail := func() error {
		c := ""
		if r.pos < len(s) {
			c = s[r.pos : r.pos+1]
		}
		return conversionError("Error parsing date string '%s'; %d: Format literal not found '%s'", s, r.pos, c)
	}
	for i := 0; i < len(format); i++ {
		c := format[i]
		if c == '%' {
			i++
			c = format[i]
			if c != '%' {
				ok := true
				switch c {
				case 'Y', 'G':
					v[c], ok = r.number(4, 4)
				case 'm', 'd', 'H', 'M', 'S', 'V':
					v[c], ok = r.number(1, 2)
				case 'L', 'j':
					v[c], ok = r.number(1, 3)
				case 'u':
					v[c], ok = r.number(1, 1)
				case 'b', 'B':
					v['m'], ok = r.month()
				case 'z', 'Z':
					zoned = true
					v['z'], ok = r.zone(c)
				}
				if !ok {
					return 0, fail()
				}
				continue
			}
		}
		if r.pos >= len(s) || s[r.pos] != c {
			return 0, fail()
		}
		r.pos++
	}
	if r.pos < len(s) {
		return 0, conversionError("Error parsing date string '%s'; %d: Trailing data '%s'", s, r.pos, s[r.pos:r.pos+1])
	}
	if zoned {
		if loc != nil {
			return 0, conversionError("you cannot pass in a date/time string with GMT offset together with a timezone argument")
		}
		loc = time.FixedZone("", v['z']*60)
	}
	if loc == nil {
		loc = time.UTC
	}
	return assembleDate(s, v, loc)
}

func assembleDate(s string, v map[byte]int, loc *time.Location) (bson.DateTime, error) {
	ms := v['L']
	if year, ok := v['G']; ok {
		week, day := 1, 1
		if w, ok := v['V']; ok {
			week = w
		}
		if d, ok := v['u']; ok {
			day = d
		}
		jan4 := time.Date(year, 1, 4, 0, 0, 0, 0, time.UTC)
		t := time.Date(year, 1, 4-isoDayOfWeek(jan4)+(week-1)*7+day, v['H'], v['M'], v['S'], ms*1e6, loc)
		return bson.DateTime(t.UnixMilli()), nil
	}
	year, ok := v['Y']
	day, ok2 := v['d']
	month, ok3 := v['m']
	if yd, has := v['j']; has && ok {
		t := time.Date(year, 1, yd, v['H'], v['M'], v['S'], ms*1e6, loc)
		return bson.DateTime(t.UnixMilli()), nil
	}
	if !ok || !ok2 || !ok3 {
		return 0, conversionError("an incomplete date/time string has been found, with elements missing: \"%s\"", s)
	}
	if month < 1 || month > 12 || day < 1 || day > 31 || v['H'] > 24 || v['M'] > 59 || v['S'] > 60 {
		return 0, conversionError("Error parsing date string '%s'; 0: The parsed date was invalid", s)
	}
	t := time.Date(year, time.Month(month), day, v['H'], v['M'], v['S'], ms*1e6, loc)
	return bson.DateTime(t.UnixMilli()), nil
}

// zone reads %z (+hhmm) or %Z (minutes) and returns minutes.
func (r *dateReader) zone(c byte) (int, bool) {
	start := r.pos
	if r.pos < len(r.s) && (r.s[r.pos] == 'Z' || r.s[r.pos] == 'z') && c == 'z' {
		r.pos++
		return 0, true
	}
	for r.pos < len(r.s) && (isDigit(r.s[r.pos]) || strings.IndexByte("+-:", r.s[r.pos]) >= 0) {
		r.pos++
	}
	text := r.s[start:r.pos]
	if c == 'z' {
		z := offsetZone(text)
		if z == nil {
			return 0, false
		}
		_, off := time.Unix(0, 0).In(z).Zone()
		return off / 60, true
	}
	sign, n := 1, 0
	if strings.HasPrefix(text, "-") {
		sign = -1
	}
	text = strings.TrimLeft(text, "+-")
	for i := 0; i < len(text); i++ {
		if !isDigit(text[i]) {
			return 0, false
		}
		n = n*10 + int(text[i]-'0')
	}
	return sign * n, text != ""
}

var dateFromStringSpec = namedSpec{
	names: []string{"dateString", "format", "timezone", "onNull", "onError"}, required: 1,
	notObject: func(_ *Op, v bson.Value) error {
		return mongoerr.New(40540, "$dateFromString only supports an object as an argument, found: %s", v.Type)
	},
	unknown: func(_ *Op, k string) error {
		return mongoerr.New(40541, "Unrecognized argument to $dateFromString: %s", k)
	},
	absent: func(*Op, int, string) error {
		return mongoerr.New(40542, "Missing 'dateString' parameter to $dateFromString")
	},
	eval: evalDateFromString,
}

func evalDateFromString(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	var loc *time.Location
	if n.given(2) {
		var err error
		if loc, err = zoneOf(args[2], true); err != nil {
			return missing, err
		}
	}
	format := ""
	if n.given(1) {
		if !args[1].IsNullish() && args[1].Type != bson.TypeString {
			return missing, mongoerr.New(40684, "$dateFromString requires that 'format' be a string, found: %s with value %s", args[1].Type, ValueText(args[1]))
		}
		format = args[1].Str()
	}
	if args[0].IsNullish() {
		if n.given(3) {
			return args[3], nil
		}
		return null, nil
	}
	if n.given(2) && loc == nil || n.given(1) && args[1].IsNullish() {
		return null, nil
	}
	if args[0].Type != bson.TypeString {
		if n.given(4) {
			return args[4], nil
		}
		return missing, mongoerr.New(mongoerr.ConversionFailure, "$dateFromString requires that 'dateString' be a string, found: %s with value %s", args[0].Type, ValueText(args[0]))
	}
	d, err := parseDate(args[0].Str(), format, loc)
	if err != nil {
		if n.given(4) && mongoerr.Is(err, mongoerr.ConversionFailure) {
			return args[4], nil
		}
		return missing, err
	}
	return env.Date(d), nil
}
