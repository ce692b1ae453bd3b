package expr

import (
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// objectIDDate returns the time in an ObjectId; its seconds are signed.
func objectIDDate(v bson.Value) bson.DateTime {
	id := v.ObjectID()
	return bson.DateTime(int32(uint32(id[0])<<24|uint32(id[1])<<16|uint32(id[2])<<8|uint32(id[3]))) * 1000
}

// coerceDate reads a date, timestamp or ObjectId.
func coerceDate(v bson.Value) (bson.DateTime, error) {
	switch v.Type {
	case bson.TypeDate:
		return v.Date(), nil
	case bson.TypeTimestamp:
		return bson.DateTime(v.Timestamp().Seconds()) * 1000, nil
	case bson.TypeObjectID:
		return objectIDDate(v), nil
	}
	return 0, mongoerr.New(16006, "can't convert from BSON type %s to Date", v.Type)
}

// datePart is $year and its like: {$year: date} or {$year: {date: …, timezone: …}}.
type datePart struct {
	op         *Op
	date, zone Expr
	part       func(env *Env, t time.Time) bson.Value
}

func intPart(f func(t time.Time) int) func(*Env, time.Time) bson.Value {
	return func(env *Env, t time.Time) bson.Value { return env.Int32(int32(f(t))) }
}

func parseDatePart(part func(*Env, time.Time) bson.Value) parseFunc {
	return func(op *Op, operand bson.Value, pc *ParseContext) (Expr, error) {
		p := &datePart{op: op, part: part}
		if operand.Type == bson.TypeDocument && !isOperator(operand) {
			return p, p.parseNamed(operand, pc)
		}
		if operand.Type == bson.TypeArray {
			if n := operand.Doc().Len(); n != 1 {
				return nil, mongoerr.New(40536, "%s accepts exactly one argument if given an array, but was given %d", op.Name, n)
			}
			operand = elemAt(operand, 0)
		}
		var err error
		p.date, err = Parse(operand, pc)
		return p, err
	}
}

func isOperator(v bson.Value) bool {
	k, _ := v.Doc().First()
	return len(k) > 0 && k[0] == '$'
}

func (p *datePart) parseNamed(operand bson.Value, pc *ParseContext) error {
	for k, v := range operand.Doc().Elems() {
		e, err := Parse(v, pc)
		if err != nil {
			return err
		}
		switch k {
		case "date":
			p.date = e
		case "timezone":
			p.zone = e
		default:
			return mongoerr.New(40535, "unrecognized option to %s: \"%s\"", p.op.Name, k)
		}
	}
	if p.date == nil {
		return mongoerr.New(40539, "missing 'date' argument to %s, provided: %s: %s", p.op.Name, p.op.Name, ToJSON(operand))
	}
	return nil
}

func (p *datePart) Eval(env *Env) (bson.Value, error) {
	v, err := p.date.Eval(env)
	if err != nil {
		return missing, err
	}
	loc := time.UTC
	if p.zone != nil {
		z, err := p.zone.Eval(env)
		if err != nil {
			return missing, err
		}
		if loc, err = zoneOf(z, true); err != nil || loc == nil {
			return null, err
		}
	}
	if v.IsNullish() {
		return null, nil
	}
	d, err := coerceDate(v)
	if err != nil {
		return missing, err
	}
	return p.part(env, d.Time().In(loc)), nil
}

func (p *datePart) AddDeps(d *Deps) {
	p.date.AddDeps(d)
	if p.zone != nil {
		p.zone.AddDeps(d)
	}
}

func (p *datePart) Append(b *bson.Builder, key string) {
	b.Doc(key)
	b.Doc(p.op.Name)
	p.date.Append(b, "date")
	if p.zone != nil {
		p.zone.Append(b, "timezone")
	}
	b.End()
	b.End()
}

func (p *datePart) Optimize() (Expr, error) {
	es, allConst, err := optimizeAll([]Expr{p.date, p.zone})
	if err != nil {
		return nil, err
	}
	n := &datePart{p.op, es[0], es[1], p.part}
	if allConst {
		return fold(n)
	}
	return n, nil
}

// isoDayOfWeek counts from Monday, 1, to Sunday, 7.
func isoDayOfWeek(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 }

// sundayWeek is the week of the year, 0 to 53, weeks beginning on Sundays.
func sundayWeek(t time.Time) int { return (t.YearDay() + 6 - int(t.Weekday())) / 7 }

func isoWeek(t time.Time) int {
	_, w := t.ISOWeek()
	return w
}

func isoWeekYear(t time.Time) int {
	y, _ := t.ISOWeek()
	return y
}

// dateToParts is {$dateToParts: {date, timezone, iso8601}}.
var dateToPartsSpec = namedSpec{
	names: []string{"date", "timezone", "iso8601"}, required: 1,
	notObject: func(op *Op, v bson.Value) error {
		return mongoerr.New(40524, "$dateToParts only supports an object as its argument")
	},
	unknown: func(op *Op, k string) error {
		return mongoerr.New(40520, "Unrecognized argument to $dateToParts: %s", k)
	},
	absent: func(op *Op, _ int, _ string) error {
		return mongoerr.New(40522, "Missing 'date' parameter to $dateToParts")
	},
	eval: evalDateToParts,
}

func evalDateToParts(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	loc, err := zoneOf(args[1], n.given(1))
	if err != nil || loc == nil {
		return null, err
	}
	iso := false
	if n.given(2) {
		if args[2].IsNullish() {
			return null, nil
		}
		if args[2].Type != bson.TypeBool {
			return missing, mongoerr.New(40521, "iso8601 must evaluate to a bool, found %s", args[2].Type)
		}
		iso = args[2].Bool()
	}
	if args[0].IsNullish() {
		return null, nil
	}
	d, err := coerceDate(args[0])
	if err != nil {
		return missing, err
	}
	t := d.Time().In(loc)
	i := func(n int) bson.Value { return env.Int32(int32(n)) }
	fs := []Field{{"year", i(t.Year())}, {"month", i(int(t.Month()))}, {"day", i(t.Day())}}
	if iso {
		fs = []Field{{"isoWeekYear", i(isoWeekYear(t))}, {"isoWeek", i(isoWeek(t))}, {"isoDayOfWeek", i(isoDayOfWeek(t))}}
	}
	fs = append(fs, Field{"hour", i(t.Hour())}, Field{"minute", i(t.Minute())}, Field{"second", i(t.Second())},
		Field{"millisecond", i(t.Nanosecond() / 1e6)})
	return env.Doc(fs), nil
}

var dateFromPartsSpec = namedSpec{
	names: []string{"year", "isoWeekYear", "month", "isoWeek", "day", "isoDayOfWeek", "hour", "minute", "second", "millisecond", "timezone"},
	notObject: func(*Op, bson.Value) error {
		return mongoerr.New(40519, "$dateFromParts only supports an object as its argument")
	},
	unknown: func(_ *Op, k string) error {
		return mongoerr.New(40518, "Unrecognized argument to $dateFromParts: %s", k)
	},
	prepare: func(n *named) error {
		switch {
		case !n.given(0) && !n.given(1):
			return mongoerr.New(40516, "$dateFromParts requires either 'year' or 'isoWeekYear' to be present")
		case n.given(0) && (n.given(1) || n.given(3) || n.given(5)):
			return mongoerr.New(40489, "$dateFromParts does not allow mixing natural dates with ISO dates")
		case n.given(1) && (n.given(0) || n.given(2) || n.given(4)):
			return mongoerr.New(40525, "$dateFromParts does not allow mixing ISO dates with natural dates")
		}
		return nil
	},
	eval: evalDateFromParts,
}

func evalDateFromParts(env *Env, n *named, args []bson.Value) (bson.Value, error) {
	vals := [10]int{0, 0, 1, 1, 1, 1, 0, 0, 0, 0}
	for i := range vals {
		if !n.given(i) {
			continue
		}
		if args[i].IsNullish() {
			return null, nil
		}
		v, ok := args[i].AsInt64()
		name := n.spec.names[i]
		if !ok {
			return missing, mongoerr.New(40515, "'%s' must evaluate to an integer, found %s with value %s", name, args[i].Type, ValueText(args[i]))
		}
		if i < 2 && (v < 1 || v > 9999) {
			return missing, mongoerr.New(40523, "'%s' must evaluate to an integer in the range 1 to 9999, found %d", name, v)
		}
		if i >= 2 && i < 9 && (v < -32768 || v > 32767) {
			return missing, mongoerr.New(31034, "'%s' must evaluate to a value in the range [-32768, 32767]; value %d is not in range", name, v)
		}
		vals[i] = int(v)
	}
	loc, err := zoneOf(args[10], n.given(10))
	if err != nil || loc == nil {
		return null, err
	}
	var t time.Time
	if n.given(1) {
		// The week that holds January 4th is the first.
		jan4 := time.Date(vals[1], 1, 4, 0, 0, 0, 0, time.UTC)
		day := 4 - isoDayOfWeek(jan4) + (vals[3]-1)*7 + vals[5]
		t = time.Date(vals[1], 1, day, vals[6], vals[7], vals[8], 0, loc)
	} else {
		t = time.Date(vals[0], time.Month(vals[2]), vals[4], vals[6], vals[7], vals[8], 0, loc)
	}
	return env.Date(bson.NewDateTime(t) + bson.DateTime(vals[9])), nil
}
