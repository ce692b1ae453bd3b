package expr

import (
	"math"
	"strings"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// timeUnits in ascending order; those below day have a fixed length.
var timeUnits = []string{"millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"}

var unitMillis = map[string]int64{
	"millisecond": 1, "second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "week": 7 * 86_400_000,
}

func isTimeUnit(s string) bool { return indexOf(s, timeUnits...) >= 0 }

var daysOfWeek = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// dayOfWeek reads a name or its first three letters; Monday is 0.
func dayOfWeek(s string) (int, bool) {
	s = strings.ToLower(s)
	for i, d := range daysOfWeek {
		if s == d || s == d[:3] {
			return i, true
		}
	}
	return 0, false
}

// namedErrors builds the parser's errors of a date operator.
func namedErrors(s namedSpec, notObject, unknown mongoerr.Code, absent ...mongoerr.Code) namedSpec {
	s.notObject = func(op *Op, v bson.Value) error {
		return mongoerr.New(notObject, "%s only supports an object as its argument", op.Name)
	}
	s.unknown = func(op *Op, k string) error {
		return mongoerr.New(unknown, "Unrecognized argument to %s: %s", op.Name, k)
	}
	s.absent = func(op *Op, i int, k string) error {
		return mongoerr.New(absent[min(i, len(absent)-1)], "Missing '%s' parameter to %s", k, op.Name)
	}
	return s
}

var dateAddSpec = func() namedSpec {
	s := namedErrors(namedSpec{
		names: []string{"startDate", "unit", "amount", "timezone"}, required: 3, eval: evalDateAdd,
	}, 5166400, 5166401, 5166402)
	s.notObject = func(op *Op, v bson.Value) error {
		return mongoerr.New(5166400, "%s expects an object as its argument", op.Name)
	}
	s.absent = func(op *Op, _ int, _ string) error {
		return mongoerr.New(5166402, "%s requires startDate, unit, and amount to be present", op.Name)
	}
	return s
}()

func evalDateAdd(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	if args[0].IsNullish() || args[1].IsNullish() || args[2].IsNullish() || n.given(3) && args[3].IsNullish() {
		return null, nil
	}
	start, err := coerceDate(args[0])
	if err != nil {
		return missing, mongoerr.New(5166403, "%s requires startDate to be convertible to a date", n.op.Name)
	}
	unit, err := unitOf(n.op.Name, args[1], 5166404, "%s expects string defining the time unit")
	if err != nil {
		return missing, err
	}
	amount, ok := args[2].AsInt64()
	if !ok {
		return missing, mongoerr.New(5166405, "%s expects integer amount of time units", n.op.Name)
	}
	if n.op.Name == "$dateSubtract" {
		if amount == math.MinInt64 {
			return missing, mongoerr.New(6045000, "invalid %s 'amount' parameter value: %d %s", n.op.Name, amount, unit)
		}
		amount = -amount
	}
	loc, err := zoneOf(args[3], n.given(3))
	if err != nil {
		return missing, err
	}
	t, ok := addUnits(start.Time().In(loc), unit, amount)
	if !ok {
		return missing, mongoerr.New(5166406, "%s overflowed", n.op.Name)
	}
	return env.Date(t), nil
}

func unitOf(op string, v bson.Value, code mongoerr.Code, format string) (string, error) {
	if v.Type != bson.TypeString {
		return "", mongoerr.New(code, format, op)
	}
	if !isTimeUnit(v.Str()) {
		return "", mongoerr.New(mongoerr.FailedToParse, "unknown time unit value: %s", v.Str())
	}
	return v.Str(), nil
}

// addUnits adds calendar units in the zone of t; a day that a month lacks becomes its last.
func addUnits(t time.Time, unit string, amount int64) (bson.DateTime, bool) {
	months := int64(0)
	switch unit {
	case "year":
		months = 12
	case "quarter":
		months = 3
	case "month":
		months = 1
	case "week", "day":
		days := amount
		if unit == "week" {
			days *= 7
		}
		if abs64(days) > 106_751_991_167 {
			return 0, false
		}
		y, m, d := t.Date()
		r := time.Date(y, m, d+int(days), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
		return bson.DateTime(r.UnixMilli()), true
	default:
		per := unitMillis[unit]
		add, ok := mulInt64(amount, per)
		ms := t.UnixMilli()
		if sum := ms + add; ok && (sum > ms) == (add > 0) || ok && add == 0 {
			return bson.DateTime(sum), true
		}
		return 0, false
	}
	if abs64(amount) > 300_000_000*12/months {
		return 0, false
	}
	y, m, d := t.Date()
	total := int64(y)*12 + int64(m-1) + amount*months
	ny, nm := floorDiv(total, 12), time.Month(total-floorDiv(total, 12)*12+1)
	d = min(d, daysIn(int(ny), nm))
	r := time.Date(int(ny), nm, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
	return bson.DateTime(r.UnixMilli()), true
}

func daysIn(y int, m time.Month) int { return time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day() }

func abs64(i int64) int64 {
	if i < 0 {
		return -i
	}
	return i
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

var dateDiffSpec = namedErrors(namedSpec{
	names: []string{"startDate", "endDate", "unit", "timezone", "startOfWeek"}, required: 3, eval: evalDateDiff,
}, 5166301, 5166302, 5166303, 5166304, 5166305)

func evalDateDiff(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	if args[0].IsNullish() || args[1].IsNullish() || args[2].IsNullish() || n.given(3) && args[3].IsNullish() {
		return null, nil
	}
	var ts [2]bson.DateTime
	for i := range ts {
		d, err := coerceDate(args[i])
		if err != nil {
			return missing, mongoerr.New(5166307, "$dateDiff requires '%s' to be a date, but got %s", n.spec.names[i], args[i].Type)
		}
		ts[i] = d
	}
	if args[2].Type != bson.TypeString {
		return missing, mongoerr.New(5439013, "$dateDiff requires 'unit' to be a string, but got %s", args[2].Type)
	}
	unit := args[2].Str()
	if !isTimeUnit(unit) {
		return missing, mongoerr.New(5439014, "$dateDiff parameter 'unit' value cannot be recognized as a time unit: %s", unit)
	}
	week := 6
	if unit == "week" && n.given(4) {
		var err error
		var isNull bool
		if week, isNull, err = weekStart("$dateDiff", args[4]); err != nil || isNull {
			return null, err
		}
	}
	loc, err := zoneOf(args[3], n.given(3))
	if err != nil {
		return missing, err
	}
	a, b := ts[0].Time().In(loc), ts[1].Time().In(loc)
	return env.Int64(unitNumber(b, unit, week) - unitNumber(a, unit, week)), nil
}

func weekStart(op string, v bson.Value) (day int, isNull bool, err error) {
	if v.IsNullish() {
		return 0, true, nil
	}
	if v.Type != bson.TypeString {
		return 0, false, mongoerr.New(5439015, "%s requires 'startOfWeek' to be a string, but got %s", op, v.Type)
	}
	day, ok := dayOfWeek(v.Str())
	if !ok {
		return 0, false, mongoerr.New(5439016, "%s parameter 'startOfWeek' value cannot be recognized as a day of a week: %s", op, v.Str())
	}
	return day, false, nil
}

// unitNumber counts units from a fixed point, in local time: differences are how many
// boundaries lie between two dates.
func unitNumber(t time.Time, unit string, week int) int64 {
	y, m, _ := t.Date()
	switch unit {
	case "year":
		return int64(y)
	case "quarter":
		return int64(y)*4 + int64(m-1)/3
	case "month":
		return int64(y)*12 + int64(m-1)
	case "week":
		// Day 0, 1970-01-01, was a Thursday.
		return floorDiv(dayNumber(t)+3-int64(week), 7)
	case "day":
		return dayNumber(t)
	}
	_, off := t.Zone()
	ms := t.UnixMilli()
	if unit == "hour" { // offsets are whole hours apart or shift the boundary
		ms += int64(off) * 1000
		return floorDiv(ms, unitMillis[unit]) - floorDiv(int64(off), 3600)
	}
	return floorDiv(ms, unitMillis[unit])
}

// dayNumber counts local days from 1970-01-01.
func dayNumber(t time.Time) int64 {
	y, m, d := t.Date()
	return floorDiv(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix(), 86400)
}

var dateTruncSpec = namedErrors(namedSpec{
	names: []string{"date", "unit", "binSize", "timezone", "startOfWeek"}, required: 2, eval: evalDateTrunc,
}, 5439007, 5439008, 5439009, 5439010)

func evalDateTrunc(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	for i, v := range args[:4] {
		if n.given(i) && v.IsNullish() {
			return null, nil
		}
	}
	d, err := coerceDate(args[0])
	if err != nil {
		return missing, mongoerr.New(5439012, "$dateTrunc requires 'date' to be a date, but got %s", args[0].Type)
	}
	if args[1].Type != bson.TypeString {
		return missing, mongoerr.New(5439013, "$dateTrunc requires 'unit' to be a string, but got %s", args[1].Type)
	}
	unit := args[1].Str()
	if !isTimeUnit(unit) {
		return missing, mongoerr.New(5439014, "$dateTrunc parameter 'unit' value cannot be recognized as a time unit: %s", unit)
	}
	bin := int64(1)
	if n.given(2) {
		v, ok := args[2].AsInt64()
		if !ok {
			return missing, mongoerr.New(5439017, "$dateTrunc requires 'binSize' to be a 64-bit integer, but got value '%s' of type %s", ValueText(args[2]), args[2].Type)
		}
		if v <= 0 {
			return missing, mongoerr.New(5439018, "$dateTrunc requires 'binSize' to be greater than 0, but got value %d", v)
		}
		bin = v
	}
	week := 6
	if unit == "week" && n.given(4) {
		var isNull bool
		if week, isNull, err = weekStart("$dateTrunc", args[4]); err != nil || isNull {
			return null, err
		}
	}
	loc, err := zoneOf(args[3], n.given(3))
	if err != nil {
		return missing, err
	}
	if bin > maxBinSize {
		return missing, mongoerr.New(5439018, "$dateTrunc requires 'binSize' to be at most %d, but got value %d", int64(maxBinSize), bin)
	}
	return env.Date(truncateDate(d.Time().In(loc), unit, bin, week)), nil
}

// maxBinSize keeps bins of every unit within the range of dates.
const maxBinSize = 100_000_000

// truncateDate returns the start of the bin; bins are counted from 2000-01-01 in the
// zone (weeks from the first start of a week on or after it).
func truncateDate(t time.Time, unit string, bin int64, week int) bson.DateTime {
	loc := t.Location()
	local := func(y int, m time.Month, d int) bson.DateTime {
		return bson.DateTime(time.Date(y, m, d, 0, 0, 0, 0, loc).UnixMilli())
	}
	switch unit {
	case "year", "quarter", "month":
		per := map[string]int64{"year": 12, "quarter": 3, "month": 1}[unit]
		months := int64(t.Year()-2000)*12 + int64(t.Month()-1)
		size := per * bin
		months = floorDiv(months, size) * size
		return local(2000, time.Month(1+months), 1)
	case "week", "day":
		ref, size := int64(10957), bin // 2000-01-01, a Saturday
		if unit == "week" {
			ref += int64((week - 5 + 7) % 7)
			size *= 7
		}
		days := floorDiv(dayNumber(t)-ref, size)*size + ref
		return local(1970, 1, int(1+days))
	}
	size := unitMillis[unit]
	_, refOff := time.Date(2000, 1, 1, 0, 0, 0, 0, loc).Zone()
	ref := int64(946684800000) - int64(refOff)*1000
	// Hours and less are fixed lengths of absolute time, from midnight of the reference.
	return bson.DateTime(floorDiv(t.UnixMilli()-ref, size*bin)*size*bin + ref)
}
