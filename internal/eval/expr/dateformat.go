package expr

import (
	"fmt"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

const isoFormat = "%Y-%m-%dT%H:%M:%S.%LZ"

// isoDate writes a date as $toString does.
func isoDate(d bson.DateTime) (string, error) { return formatDate(isoFormat, d.Time()) }

// timestampString writes a timestamp as $toLower and $substr see it.
func timestampString(ts bson.Timestamp) string {
	t := time.Unix(int64(ts.Seconds()), 0).UTC()
	return fmt.Sprintf("%s:%d", t.Format("Jan _2 15:04:05"), ts.Increment())
}

// checkFormat reports MongoDB's error for a bad format string; specifiers are those of
// writing or of reading dates.
func checkFormat(format, specifiers string) error {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		i++
		if i == len(format) {
			return mongoerr.New(18535, "Unmatched '%%' at end of format string")
		}
		if strings.IndexByte(specifiers, format[i]) < 0 {
			return mongoerr.New(18536, "Invalid format character '%%%c' in format string", format[i])
		}
	}
	return nil
}

const writeSpecifiers = "bBdGHjLmMSuUVwYzZ%"

// formatDate writes t; the format was checked.
func formatDate(format string, t time.Time) (string, error) {
	var sb strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			sb.WriteByte(format[i])
			continue
		}
		i++
		switch format[i] {
		case '%':
			sb.WriteByte('%')
		case 'Y':
			if y := t.Year(); y < 0 || y > 9999 {
				return "", mongoerr.New(18537, "Could not convert date to string: date component was outside the supported range of 0-9999: %d", y)
			}
			fmt.Fprintf(&sb, "%04d", t.Year())
		case 'G':
			y := isoWeekYear(t)
			if y < 0 || y > 9999 {
				return "", mongoerr.New(18537, "Could not convert date to string: date component was outside the supported range of 0-9999: %d", y)
			}
			fmt.Fprintf(&sb, "%04d", y)
		default:
			formatPart(&sb, format[i], t)
		}
	}
	return sb.String(), nil
}

func formatPart(sb *strings.Builder, c byte, t time.Time) {
	switch c {
	case 'b':
		sb.WriteString(t.Format("Jan"))
	case 'B':
		sb.WriteString(t.Format("January"))
	case 'd':
		fmt.Fprintf(sb, "%02d", t.Day())
	case 'H':
		fmt.Fprintf(sb, "%02d", t.Hour())
	case 'j':
		fmt.Fprintf(sb, "%03d", t.YearDay())
	case 'L':
		fmt.Fprintf(sb, "%03d", t.Nanosecond()/1e6)
	case 'm':
		fmt.Fprintf(sb, "%02d", int(t.Month()))
	case 'M':
		fmt.Fprintf(sb, "%02d", t.Minute())
	case 'S':
		fmt.Fprintf(sb, "%02d", t.Second())
	case 'u':
		fmt.Fprintf(sb, "%d", isoDayOfWeek(t))
	case 'U':
		fmt.Fprintf(sb, "%02d", sundayWeek(t))
	case 'V':
		fmt.Fprintf(sb, "%02d", isoWeek(t))
	case 'w':
		fmt.Fprintf(sb, "%d", int(t.Weekday())+1)
	case 'z':
		sb.WriteString(t.Format("-0700"))
	case 'Z':
		_, off := t.Zone()
		fmt.Fprintf(sb, "%+d", off/60)
	}
}

var dateToStringSpec = namedSpec{
	names: []string{"date", "format", "timezone", "onNull"}, required: 1,
	notObject: func(*Op, bson.Value) error {
		return mongoerr.New(18629, "$dateToString only supports an object as its argument")
	},
	unknown: func(_ *Op, k string) error {
		return mongoerr.New(18534, "Unrecognized argument to $dateToString: %s", k)
	},
	absent: func(*Op, int, string) error {
		return mongoerr.New(18628, "Missing 'date' parameter to $dateToString")
	},
	prepare: func(n *named) error {
		if n.args[1] == nil {
			return nil
		}
		if v, ok := ConstantValue(n.args[1]); ok && v.Type == bson.TypeString {
			return checkFormat(v.Str(), writeSpecifiers)
		}
		return nil
	},
	eval: evalDateToString,
}

func evalDateToString(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	onNull := null
	if n.given(3) {
		onNull = args[3]
	}
	loc, err := zoneOf(args[2], n.given(2))
	if err != nil {
		return missing, err
	}
	format := isoFormat
	if n.given(1) {
		switch {
		case args[1].IsNullish():
			return onNull, nil
		case args[1].Type != bson.TypeString:
			return missing, mongoerr.New(18533, "$dateToString requires that 'format' be a string, found: %s with value %s", args[1].Type, ValueText(args[1]))
		}
		format = args[1].Str()
		if err := checkFormat(format, writeSpecifiers); err != nil {
			return missing, err
		}
	} else if loc != time.UTC {
		format = strings.TrimSuffix(isoFormat, "Z")
	}
	if loc == nil || args[0].IsNullish() {
		return onNull, nil
	}
	d, err := coerceDate(args[0])
	if err != nil {
		return missing, err
	}
	s, err := formatDate(format, d.Time().In(loc))
	if err != nil {
		return missing, err
	}
	return env.Str(s), nil
}
