package pipeline

import (
	"context"
	"slices"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/eval/expr"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// NoUniqueIndex is the error of a $merge on fields that may not be unique.
const NoUniqueIndex mongoerr.Code = 51183

// mergeStage is $merge.
type mergeStage struct {
	ns         Namespace
	on         []string
	onGiven    bool
	matched    string // replace, keepExisting, merge, fail, pipeline
	notMatched string // insert, discard, fail
	pipe       bson.Value
	letNames   []string
	letVals    []expr.Expr
}

func parseMerge(ps *parser, _ string, v bson.Value) ([]stage, error) {
	s := &mergeStage{ns: Namespace{DB: ps.o.NS.DB}, on: []string{"_id"}, matched: "merge", notMatched: "insert"}
	switch v.Type {
	case bson.TypeString:
		s.ns.Coll = v.Str()
	case bson.TypeDocument:
		if err := s.parseDoc(ps, v.Doc()); err != nil {
			return nil, err
		}
	default:
		return nil, mongoerr.New(51182, "$merge only supports a string or object argument, not %s", v.Type)
	}
	switch {
	case s.ns.Coll == "" || s.ns.DB == "":
		return nil, mongoerr.New(mongoerr.InvalidNamespace, "Invalid $merge target namespace: '%s'", s.ns)
	case s.ns.special():
		return nil, mongoerr.New(31319, "Cannot $merge to special collection: %s", s.ns.Coll)
	case s.ns.internal():
		return nil, mongoerr.New(31320, "Cannot $merge to internal database: %s", s.ns.DB)
	}
	return []stage{s}, s.checkModes()
}

func (s *mergeStage) parseDoc(ps *parser, d bson.Raw) error {
	let := bson.Value{}
	if !d.Has("into") {
		return mongoerr.New(40414, "BSON field '$merge.into' is missing but a required field")
	}
	for k, e := range d.Elems() {
		var err error
		switch k {
		case "into":
			err = s.parseInto(e)
		case "on":
			err = s.parseOn(e)
		case "let":
			if e.Type != bson.TypeDocument {
				return mongoerr.New(mongoerr.TypeMismatch, "BSON field '$merge.let' is the wrong type '%s', expected type 'object'", e.Type)
			}
			let = e
		case "whenMatched":
			if e.Type == bson.TypeArray {
				s.matched, s.pipe = "pipeline", e
				continue
			}
			s.matched, err = enumValue(k, e, "replace", "keepExisting", "merge", "fail")
		case "whenNotMatched":
			s.notMatched, err = enumValue(k, e, "insert", "discard", "fail")
		default:
			err = mongoerr.New(mongoerr.UnknownField, "BSON field '$merge.%s' is an unknown field.", k)
		}
		if err != nil {
			return err
		}
	}
	return s.parseLet(ps, let)
}

func enumValue(field string, v bson.Value, allowed ...string) (string, error) {
	if v.Type != bson.TypeString {
		return "", mongoerr.New(51191, "$merge '%s' field must be a string, but found %s", field, v.Type)
	}
	if !slices.Contains(allowed, v.Str()) {
		return "", mongoerr.New(mongoerr.BadValue, "Enumeration value '%s' for field '$merge.%s' is not a valid value.", v.Str(), field)
	}
	return v.Str(), nil
}

func (s *mergeStage) parseInto(v bson.Value) error {
	switch v.Type {
	case bson.TypeString:
		s.ns.Coll = v.Str()
	case bson.TypeDocument:
		for k, e := range v.Doc().Elems() {
			switch {
			case k == "db" && e.Type == bson.TypeString:
				s.ns.DB = e.Str()
			case k == "coll" && e.Type == bson.TypeString:
				s.ns.Coll = e.Str()
			default:
				return mongoerr.New(mongoerr.UnknownField, "BSON field 'into.%s' is an unknown field.", k)
			}
		}
	default:
		return mongoerr.New(51178, "$merge 'into' field  must be either a string or an object, but found %s", v.Type)
	}
	return nil
}

func (s *mergeStage) parseOn(v bson.Value) error {
	s.on, s.onGiven = nil, true
	switch v.Type {
	case bson.TypeString:
		s.on = []string{v.Str()}
	case bson.TypeArray:
		for e := range v.Doc().Values() {
			if e.Type != bson.TypeString {
				return mongoerr.New(51134, "$merge 'on' array elements must be strings, but found %s", e.Type)
			}
			if slices.Contains(s.on, e.Str()) {
				return mongoerr.New(31465, "Found a duplicate field '%s'", e.Str())
			}
			s.on = append(s.on, e.Str())
		}
		if len(s.on) == 0 {
			return mongoerr.New(51187, "If explicitly specifying $merge 'on', must include at least one field")
		}
	default:
		return mongoerr.New(51186, "$merge 'on' field  must be either a string or an array of strings, but found %s", v.Type)
	}
	slices.Sort(s.on)
	return nil
}

func (s *mergeStage) parseLet(ps *parser, let bson.Value) error {
	if let.IsMissing() {
		if s.matched == "pipeline" {
			let = bson.D("new", "$$ROOT").Value()
		} else {
			return nil
		}
	} else if s.matched != "pipeline" {
		return mongoerr.New(51199, "Cannot use 'let' variables with 'whenMatched: %s' mode", s.matched)
	}
	for k, e := range let.Doc().Elems() {
		if err := expr.CheckVarName(k); err != nil {
			return err
		}
		x, err := expr.Parse(e, ps.o.Expr)
		if err != nil {
			return err
		}
		s.letNames, s.letVals = append(s.letNames, k), append(s.letVals, x)
	}
	if s.notMatched == "insert" && !slices.Contains(s.letNames, "new") {
		x, err := expr.Parse(bson.V("$$ROOT"), nil)
		if err != nil {
			return err
		}
		s.letNames, s.letVals = append(s.letNames, "new"), append(s.letVals, x)
	}
	return nil
}

func (s *mergeStage) checkModes() error {
	if (s.matched == "fail" || s.matched == "keepExisting") && s.notMatched != "insert" {
		return mongoerr.New(51181, "Combination of whenMatched: %s and whenNotMatched: %s is not supported", s.matched, s.notMatched)
	}
	return nil
}

func (s *mergeStage) info() stageInfo { return stageInfo{name: "$merge", last: true} }

func (s *mergeStage) optimize() (stage, error) {
	for i, e := range s.letVals {
		var err error
		if s.letVals[i], err = e.Optimize(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *mergeStage) deps(d *expr.Deps) visibility {
	d.Whole = true
	return seesAll
}

func (s *mergeStage) serialize(b *bson.Builder) {
	b.Doc("").Doc("$merge").Doc("into").Str("db", s.ns.DB).Str("coll", s.ns.Coll).End()
	if len(s.on) == 1 {
		b.Str("on", s.on[0])
	} else {
		b.Any("on", s.on)
	}
	if s.matched == "pipeline" {
		b.Doc("let")
		for i, e := range s.letVals {
			e.Append(b, s.letNames[i])
		}
		b.End()
		b.Append("whenMatched", s.pipe)
	} else {
		b.Str("whenMatched", s.matched)
	}
	b.Str("whenNotMatched", s.notMatched).End().End()
}

func (s *mergeStage) open(o *Options, src Iterator) (Iterator, error) {
	return &writeIter{src: src, run: func(ctx context.Context) error { return s.write(ctx, o, src) }}, nil
}

func (s *mergeStage) write(ctx context.Context, o *Options, src Iterator) error {
	if s.onGiven && !slices.Equal(s.on, []string{"_id"}) {
		ok, err := o.Host.HasUniqueIndex(ctx, s.ns, s.on)
		if err != nil {
			return err
		}
		if !ok {
			return mongoerr.New(NoUniqueIndex, "Cannot find index to verify that join fields will be unique")
		}
	}
	return batches(ctx, o, src, func(docs []bson.Raw) error {
		if s.matched == "fail" {
			return o.Host.Insert(ctx, s.ns, docs)
		}
		writes := make([]MergeWrite, len(docs))
		for i, d := range docs {
			w, err := s.mergeWrite(o, d)
			if err != nil {
				return err
			}
			writes[i] = w
		}
		n, err := o.Host.Update(ctx, s.ns, writes)
		if err != nil {
			return err
		}
		if s.notMatched == "fail" {
			for _, k := range n {
				if k == 0 {
					return mongoerr.New(13113, "$merge could not find a matching document in the target collection for at least one document in the source collection")
				}
			}
		}
		return nil
	})
}

// mergePipeline is whenMatched: "merge" as an update.
var mergePipeline = bson.A(bson.D("$replaceWith", bson.D("$mergeObjects", bson.A("$$ROOT", "$$new"))))

func (s *mergeStage) mergeWrite(o *Options, d bson.Raw) (MergeWrite, error) {
	q, err := s.filter(d)
	if err != nil {
		return MergeWrite{}, err
	}
	w := MergeWrite{Q: q, Upsert: s.notMatched == "insert"}
	switch s.matched {
	case "replace":
		w.U = d.Value()
	case "keepExisting":
		w.U = bson.D("$setOnInsert", d).Value()
	case "merge":
		w.U, w.Constants = mergePipeline.Value(), bson.D("new", d)
		w.UpsertSupplied = w.Upsert
	case "pipeline":
		w.U = s.pipe
		w.UpsertSupplied = w.Upsert
		env := o.env()
		env.Reset(d)
		b := bson.NewBuilder(nil)
		for i, e := range s.letVals {
			v, err := e.Eval(env)
			if err != nil {
				return w, err
			}
			b.Append(s.letNames[i], v)
		}
		w.Constants = b.Finish()
	}
	return w, nil
}

// filter addresses the document to be merged into.
func (s *mergeStage) filter(d bson.Raw) (bson.Raw, error) {
	b := bson.NewBuilder(nil)
	for _, f := range s.on {
		v := nested(d, strings.Split(f, "."))
		switch {
		case v.IsMissing() && f == "_id":
			// The target gets a new _id: nothing can match.
			b.Doc("_id").Array("$in").End().End()
			continue
		case v.IsNullish():
			return nil, mongoerr.New(51132, "$merge write error: 'on' field cannot be missing, null, undefined or an array")
		case v.Type == bson.TypeArray:
			return nil, mongoerr.New(51185, "$merge write error: 'on' field cannot be missing, null, undefined or an array")
		}
		b.Doc(f).Append("$eq", v).End()
	}
	return b.Finish(), nil
}
