package catalog

import (
	"context"
	"errors"
	"strings"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
	"github.com/cairndb/cairn/internal/oplog"
)

// CollModResult is what collMod replies beside ok: expireAfterSeconds_old and so on.
type CollModResult struct {
	Reply  bson.Raw
	Future *oplog.Future
}

// collMod is a checked collMod: which options to set and what to do to one index.
type collMod struct {
	options bson.Raw
	remove  []string
	viewOn  bson.Value
	pipe    bson.Value
	index   bson.Raw
	// series are changes of a time-series collection's own options; ofSeries says that another
	// change makes sense for such only.
	series   bson.Raw
	ofSeries bool
	dryRun   bool // only look whether an index can be made unique
	logged   bool // comes from a log: what was to be looked at was
}

func parseCollMod(mods bson.Raw) (*collMod, error) {
	m := &collMod{}
	opts := bson.NewBuilder(nil)
	for key, v := range mods.Elems() {
		switch key {
		case "validator":
			if v.Type == bson.TypeDocument && v.Doc().IsEmpty() {
				m.remove = append(m.remove, key)
				continue
			}
			opts.Append(key, v)
		case "validationLevel", "validationAction", "changeStreamPreAndPostImages":
			opts.Append(key, v)
		case "cappedSize":
			opts.Append("size", v)
		case "cappedMax":
			n, ok := v.AsInt64()
			if !v.IsNumber() {
				return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'collMod.cappedMax' is the wrong type '%s', expected types '[long, int, decimal, double]'", v.Type)
			}
			if ok && n <= 0 {
				m.remove = append(m.remove, "max")
				continue
			}
			opts.Append("max", v)
		case "viewOn":
			m.viewOn = v
		case "pipeline":
			m.pipe = v
		case "index":
			if v.Type != bson.TypeDocument {
				return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'collMod.index' is the wrong type '%s', expected type 'object'", v.Type)
			}
			m.index = v.Doc()
		case "dryRun":
			if v.Type != bson.TypeBool && !v.IsNumber() {
				return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'collMod.dryRun' is the wrong type '%s', expected types '[bool, long, int, decimal, double]'", v.Type)
			}
			m.dryRun = v.Truthy()
		case "timeseries":
			if v.Type != bson.TypeDocument {
				return nil, mongoerr.New(mongoerr.TypeMismatch, "BSON field 'collMod.timeseries' is the wrong type '%s', expected type 'object'", v.Type)
			}
			m.series = v.Doc()
		case "expireAfterSeconds":
			m.ofSeries = true
			if _, on, err := expireOption(v); err != nil {
				return nil, err
			} else if !on {
				m.remove = append(m.remove, key)
				continue
			}
			opts.Append(key, v)
		case "isTimeseriesNamespace", "timeseriesBucketsMayHaveMixedSchemaData": // for routers and for other planners
		case "clusteredIndex":
			return nil, mongoerr.New(mongoerr.InvalidOptions, "%s is not supported by this version of Cairn", key)
		default:
			return nil, mongoerr.New(mongoerr.UnknownField, "BSON field 'collMod.%s' is an unknown field.", key)
		}
	}
	m.options = opts.Finish()
	if m.dryRun && (m.index == nil || !m.index.Has("unique") || !m.options.IsEmpty() || len(m.remove) > 0) {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "dryRun is only supported with the option index.unique")
	}
	if (m.viewOn.IsMissing()) != (m.pipe.IsMissing()) {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "Must specify both 'viewOn' and 'pipeline' when modifying a view")
	}
	return m, nil
}

// CollMod changes options of a collection, an index or a view. mods are the fields
// of the command but for its name and the generic arguments.
func (c *Catalog) CollMod(ctx context.Context, ns Namespace, mods bson.Raw) (*CollModResult, error) {
	if err := ValidateNamespace(ns); err != nil {
		return nil, err
	}
	m, err := parseCollMod(mods)
	if err != nil {
		return nil, err
	}
	res := &CollModResult{Reply: bson.Empty}
	f, err := c.runDDL(ctx, func(d *ddl, ch *change) error {
		coll := ch.e.v.Timeseries(ns)
		switch {
		case coll != nil:
			if err := m.toBuckets(coll); err != nil {
				return err
			}
		case ch.e.v.View(ns) != nil:
			return ch.modView(ctx, ch.e.v.View(ns), m)
		default:
			if coll = ch.e.v.Lookup(ns); coll == nil {
				return mongoerr.New(mongoerr.NamespaceNotFound, "ns does not exist")
			}
		}
		if !m.viewOn.IsMissing() {
			return mongoerr.New(mongoerr.InvalidOptions, "option only supported on a view: viewOn")
		}
		if err := d.lock(coll); err != nil {
			return err
		}
		reply, old, err := ch.collMod(ctx, coll, m)
		if err != nil {
			return err
		}
		if m.dryRun {
			return errNothing
		}
		res.Reply = reply
		o := bson.NewBuilder(nil).Str("collMod", coll.NS.Coll).AppendElems(m.entry(mods)).Finish()
		if err := ch.log(coll, coll.NS, coll.UUID, o, old); err != nil || coll.NS == ns {
			return err
		}
		return ch.modSeriesView(ctx, ns)
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	res.Future = f
	return res, err
}

// collMod changes a collection; old is the o2 of the entry.
func (ch *change) collMod(ctx context.Context, c *Collection, m *collMod) (reply, old bson.Raw, err error) {
	o2 := bson.NewBuilder(nil)
	o2.Doc("collectionOptions_old").UUID("uuid", c.UUID).AppendElems(c.Options.Raw).End()
	out := bson.NewBuilder(nil)
	if c.Options.Timeseries == nil && (m.series != nil || m.ofSeries && !c.Options.Clustered) {
		return nil, nil, mongoerr.New(mongoerr.InvalidOptions, "option only supported on a time-series collection: %s", m.options)
	}
	if m.series != nil {
		ts, err := c.Options.Timeseries.with(m.series)
		if err != nil {
			return nil, nil, err
		}
		m.options = bson.NewBuilder(nil).AppendElems(m.options).AppendDoc("timeseries", ts.Raw).Finish()
	}
	if m.index != nil {
		if c, err = ch.modIndex(ctx, c, m, out, o2); err != nil {
			return nil, nil, err
		}
	}
	if !m.options.IsEmpty() || len(m.remove) > 0 {
		if !c.Options.Capped && (m.options.Has("size") || m.options.Has("max")) {
			return nil, nil, mongoerr.New(mongoerr.InvalidOptions, "cappedSize and cappedMax may only be used on a capped collection")
		}
		opts, err := c.Options.with(m.withValidation(c.Options), m.remove...)
		if err != nil {
			return nil, nil, asCollMod(err)
		}
		if _, err := ch.setOptions(c, opts); err != nil {
			return nil, nil, err
		}
	}
	return out.Finish(), o2.Finish(), nil
}

// withValidation returns the options to set: a validator brings its level and action along, as
// their defaults if nobody named them.
func (m *collMod) withValidation(old *CollectionOptions) bson.Raw {
	if !m.options.Has("validator") {
		return m.options
	}
	b := bson.NewBuilder(nil).AppendElems(m.options)
	for _, o := range [][2]string{{"validationLevel", "strict"}, {"validationAction", "error"}} {
		if !m.options.Has(o[0]) && !old.Raw.Has(o[0]) {
			b.Str(o[0], o[1])
		}
	}
	return b.Finish()
}

// modIndex does the index part of collMod.
func (ch *change) modIndex(ctx context.Context, c *Collection, m *collMod, out, o2 *bson.Builder) (*Collection, error) {
	mod := m.index
	ix, err := c.modifiedIndex(mod)
	if err != nil {
		return nil, err
	}
	spec, known := ix.Spec, false
	o2.Doc("indexOptions_old")
	for key, v := range mod.Elems() {
		switch key {
		case "name", "keyPattern":
			continue
		case "expireAfterSeconds":
			if spec.TTL {
				out.IntOrLong("expireAfterSeconds_old", spec.ExpireAfter)
				o2.IntOrLong("expireAfterSeconds", spec.ExpireAfter)
			}
			if spec, err = spec.withOption(key, v); err != nil {
				return nil, mongoerr.New(mongoerr.InvalidOptions, "%s", err.(*mongoerr.Error).Message)
			}
			out.IntOrLong("expireAfterSeconds_new", spec.ExpireAfter)
		case "hidden":
			if spec.IsID() {
				return nil, mongoerr.New(mongoerr.BadValue, "can't hide _id index")
			}
			was := spec.Hidden
			if spec, err = spec.withOption(key, v); err != nil {
				return nil, err
			}
			if was != spec.Hidden {
				out.Bool("hidden_old", was).Bool("hidden_new", spec.Hidden)
				o2.Bool("hidden", was)
			}
		case "prepareUnique":
			if spec, err = spec.prepareUnique(v, out, o2); err != nil {
				return nil, err
			}
			known = true
		case "unique":
			if spec, err = ch.makeUnique(ctx, c, ix, spec, v, !m.logged, out); err != nil {
				return nil, err
			}
			known = true
		default:
			return nil, mongoerr.New(mongoerr.UnknownField, "BSON field 'collMod.index.%s' is an unknown field.", key)
		}
	}
	o2.End()
	if spec == ix.Spec && !known {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "no expireAfterSeconds, hidden, unique, or prepareUnique field")
	}
	return ch.setIndexSpec(c, ix, spec), nil
}

// modifiedIndex finds the index that collMod names.
func (c *Collection) modifiedIndex(mod bson.Raw) (*Index, error) {
	name, key := mod.Get("name"), mod.Get("keyPattern")
	switch {
	case name.IsMissing() == key.IsMissing():
		if name.IsMissing() {
			return nil, mongoerr.New(mongoerr.InvalidOptions, "Must specify either index name or key pattern.")
		}
		return nil, mongoerr.New(mongoerr.InvalidOptions, "Cannot specify both key pattern and name.")
	case !name.IsMissing():
		if name.Type != bson.TypeString {
			return nil, mongoerr.New(mongoerr.InvalidOptions, "Index name must be a string.")
		}
		if name.Str() == c.ClusteredName() && name.Str() != "" {
			return c.IDIndex(), nil
		}
		if ix := c.Index(name.Str()); ix != nil && ix.build == nil {
			return ix, nil
		}
		return nil, mongoerr.New(mongoerr.IndexNotFound, "cannot find index %s for ns %s", name.Str(), c.NS)
	case key.Type != bson.TypeDocument:
		return nil, mongoerr.New(mongoerr.InvalidOptions, "Key pattern must be an object.")
	}
	found := c.byKey(key.Doc())
	switch len(found) {
	case 0:
		return nil, mongoerr.New(mongoerr.IndexNotFound, "cannot find index %s for ns %s", key.Doc(), c.NS)
	case 1:
		return found[0], nil
	}
	return nil, mongoerr.New(mongoerr.AmbiguousIndexKeyPattern, "index keyPattern %s matches %d indexes, must use index name. Conflicting indexes: %s, %s",
		key.Doc(), len(found), found[0].Spec.Raw, found[1].Spec.Raw)
}

// byKey returns the ready indexes with a key pattern.
func (c *Collection) byKey(key bson.Raw) (found []*Index) {
	for _, ix := range c.Indexes() {
		if keyEqual(ix.Spec.Key, key) {
			found = append(found, ix)
		}
	}
	return found
}

// modView replaces a view's definition.
func (ch *change) modView(ctx context.Context, v *View, m *collMod) error {
	if m.viewOn.IsMissing() || !m.options.IsEmpty() || m.index != nil || len(m.remove) > 0 {
		return mongoerr.New(mongoerr.InvalidOptions, "option not supported on a view")
	}
	opts, err := ParseCollectionOptions(bson.D("viewOn", m.viewOn, "pipeline", m.pipe))
	if err != nil {
		return err
	}
	if err := ch.e.v.checkViewGraph(v.NS, opts.ViewOn); err != nil {
		return err
	}
	b := bson.NewBuilder(nil).Str("_id", v.NS.String()).Str("viewOn", opts.ViewOn).AppendArray("pipeline", opts.Pipeline)
	if v.Collation != nil {
		b.AppendDoc("collation", v.Collation.Spec())
	}
	return ch.changeView(ctx, v.NS, b.Finish())
}

// asCollMod has an error of an option name the command that it came with.
func asCollMod(err error) error {
	e, ok := mongoerr.As(err)
	if !ok {
		return err
	}
	own := *e
	own.Message = strings.Replace(e.Message, "'create.", "'collMod.", 1)
	return &own
}
