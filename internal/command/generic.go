package command

import (
	"math"
	"time"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// Generic holds the arguments that every command takes.
type Generic struct {
	LSID          bson.Raw // the lsid document, nil without a session
	TxnNumber     int64
	HasTxnNumber  bool
	Autocommit    bson.Value
	StartTxn      bool
	StmtID        bson.Value // stmtId or stmtIds
	MaxTime       time.Duration
	HasMaxTime    bool
	Comment       bson.Value
	ReadConcern   ReadConcern
	WriteConcern  WriteConcern
	ReadPref      bson.Raw
	APIVersion    string
	APIStrict     bool
	APIDeprecated bool
	ClusterTime   bson.Raw
}

// ReadConcern is a parsed readConcern.
type ReadConcern struct {
	Level            string // "" when not given
	Given            bool
	AfterClusterTime bson.Timestamp
	AtClusterTime    bson.Timestamp
}

// WriteConcern is a parsed writeConcern.
type WriteConcern struct {
	Given    bool
	W        int64    // number of members; with Mode "" only
	Mode     string   // "majority" or a tag mode
	Tags     bson.Raw // w as {tag: number of its values}; nil if not given so
	J        bool
	JGiven   bool
	WTimeout time.Duration
}

type generic struct {
	name  string
	types Types
	parse func(c *Ctx, v bson.Value) error
}

// generics is kept sorted by name.
var generics = []generic{
	{"$audit", TAny, nil},
	{"$clusterTime", TObject, parseClusterTime},
	{"$configServerState", TAny, nil},
	{"$configTime", TTimestamp, nil},
	{"$db", TString, nil},
	{"$oplogQueryData", TAny, nil},
	{"$queryOptions", TObject, nil},
	{"$readPreference", TObject, parseReadPref},
	{"$replData", TAny, nil},
	{"$topologyTime", TTimestamp, nil},
	{"allowImplicitCollectionCreation", TBool, nil},
	{"apiDeprecationErrors", TBool, func(c *Ctx, v bson.Value) error { c.Generic.APIDeprecated = v.Bool(); return nil }},
	{"apiStrict", TBool, func(c *Ctx, v bson.Value) error { c.Generic.APIStrict = v.Bool(); return nil }},
	{"apiVersion", TString, func(c *Ctx, v bson.Value) error { c.Generic.APIVersion = v.Str(); return nil }},
	{"autocommit", TBool, func(c *Ctx, v bson.Value) error { c.Generic.Autocommit = v; return nil }},
	{"comment", TAny, func(c *Ctx, v bson.Value) error { c.Generic.Comment = v; return nil }},
	{"lsid", TObject, parseLSID},
	{"maxTimeMS", TNumber, parseMaxTime},
	{"readConcern", TObject, parseReadConcern},
	{"startTransaction", TBool, func(c *Ctx, v bson.Value) error { c.Generic.StartTxn = v.Bool(); return nil }},
	{"stmtId", TInt | TLong, func(c *Ctx, v bson.Value) error { c.Generic.StmtID = v; return nil }},
	{"stmtIds", TArray, func(c *Ctx, v bson.Value) error { c.Generic.StmtID = v; return nil }},
	{"txnNumber", TLong | TInt, parseTxnNumber},
	{"writeConcern", TObject, func(c *Ctx, v bson.Value) (err error) {
		c.Generic.WriteConcern, err = ParseWriteConcern(v.Doc())
		return err
	}},
}

// genericsOf are the places in the table of the names of each length.
var genericsOf = func() (of [40][]uint8) {
	for i, g := range generics {
		of[len(g.name)] = append(of[len(g.name)], uint8(i))
	}
	return of
}()

// genericArg returns the place of a generic argument in the table, -1 if it is none.
func genericArg(name string) int {
	if len(name) >= len(genericsOf) {
		return -1
	}
	for _, i := range genericsOf[len(name)] {
		if generics[i].name == name {
			return int(i)
		}
	}
	return -1
}

func (g *generic) check(c *Ctx, v bson.Value) error {
	if v.Type == bson.TypeNull && g.name != "comment" {
		return nil
	}
	if !g.types.Allows(v.Type) {
		return wrongType(c.Command.field(g.name), v.Type, g.types)
	}
	if g.parse == nil {
		return nil
	}
	return g.parse(c, v)
}

// parseClusterTime checks the form; whose signature it bears does not matter without keys.
func parseClusterTime(c *Ctx, v bson.Value) error {
	c.Generic.ClusterTime = v.Doc()
	switch t := c.Generic.ClusterTime.Get("clusterTime"); {
	case t.IsMissing():
		return missingField("$clusterTime.clusterTime")
	case t.Type != bson.TypeTimestamp:
		return wrongType("$clusterTime.clusterTime", t.Type, TTimestamp)
	}
	return nil
}

func parseTxnNumber(c *Ctx, v bson.Value) error {
	n, _ := v.AsInt64()
	if n < 0 {
		return mongoerr.New(mongoerr.BadValue, "Transaction number cannot be negative")
	}
	c.Generic.TxnNumber, c.Generic.HasTxnNumber = n, true
	return nil
}

// parseLSID accepts {id: UUID} and, as drivers of authenticated users send, uid.
func parseLSID(c *Ctx, v bson.Value) error {
	doc := v.Doc()
	id := doc.Get("id")
	if id.IsMissing() {
		return missingField("OperationSessionInfo.lsid.id")
	}
	if _, ok := id.UUID(); !ok {
		if id.Type != bson.TypeBinary {
			return wrongType("OperationSessionInfo.lsid.id", id.Type, TBinData)
		}
		return mongoerr.New(mongoerr.TypeMismatch, "BSON field 'OperationSessionInfo.lsid.id' is the wrong binData type, expected type 'UUID'")
	}
	for k := range doc.Elems() {
		if k != "id" && k != "uid" && k != "txnNumber" && k != "txnUUID" {
			return unknownField("OperationSessionInfo.lsid." + k)
		}
	}
	c.Generic.LSID = doc
	return nil
}

func parseMaxTime(c *Ctx, v bson.Value) error {
	n, ok := v.AsInt64()
	if !ok {
		if f, _ := v.AsFloat64(); f != math.Trunc(f) {
			return mongoerr.New(mongoerr.BadValue, "maxTimeMS has non-integral value")
		}
		return mongoerr.New(mongoerr.BadValue, "maxTimeMS value for %s is out of range", c.Command.Name)
	}
	if n < 0 || n > math.MaxInt32 {
		return mongoerr.New(mongoerr.BadValue, "%d value for maxTimeMS is out of range [0, 2147483647]", n)
	}
	c.Generic.MaxTime, c.Generic.HasMaxTime = time.Duration(n)*time.Millisecond, true
	return nil
}

func parseReadPref(c *Ctx, v bson.Value) error {
	mode := v.Doc().Get("mode")
	switch mode.Str() {
	case "primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest":
	default:
		if mode.Type != bson.TypeString {
			return missingField("$readPreference.mode")
		}
		return mongoerr.New(mongoerr.FailedToParse, "Could not parse $readPreference mode '%s'. Only the modes 'primary', 'primaryPreferred', 'secondary', 'secondaryPreferred', and 'nearest' are supported.", mode.Str())
	}
	c.Generic.ReadPref = v.Doc()
	return nil
}

func parseReadConcern(c *Ctx, v bson.Value) error {
	rc := ReadConcern{Given: true}
	for k, e := range v.Doc().Elems() {
		switch k {
		case "level":
			if e.Type != bson.TypeString {
				return wrongType("readConcern.level", e.Type, TString)
			}
			rc.Level = e.Str()
			switch rc.Level {
			case "local", "majority", "available", "linearizable", "snapshot":
			default:
				return mongoerr.New(mongoerr.BadValue, "Enumeration value '%s' for field 'readConcern.level' is not a valid value.", rc.Level)
			}
		case "afterClusterTime", "atClusterTime":
			if e.Type != bson.TypeTimestamp {
				return wrongType("readConcern."+k, e.Type, TTimestamp)
			}
			if k[1] == 'f' {
				rc.AfterClusterTime = e.Timestamp()
			} else {
				rc.AtClusterTime = e.Timestamp()
			}
		case "afterOpTime", "provenance", "$allowTransactionTableSnapshot", "$waitLastStableRecoveryTimestamp":
			if k != "provenance" {
				return mongoerr.New(mongoerr.CommandNotSupported, "readConcern.%s is for members of a replica set and is not supported", k)
			}
		default:
			return unknownField("readConcern." + k)
		}
	}
	if rc.AtClusterTime != 0 && rc.Level != "snapshot" {
		return mongoerr.New(mongoerr.InvalidOptions, "atClusterTime field can be set only if level is equal to snapshot")
	}
	if rc.AfterClusterTime != 0 && rc.AtClusterTime != 0 {
		return mongoerr.New(mongoerr.InvalidOptions, "Specifying a timestamp for readConcern snapshot in a causally consistent session is not allowed.")
	}
	c.Generic.ReadConcern = rc
	return nil
}

// ParseWriteConcern reads a writeConcern document.
func ParseWriteConcern(doc bson.Raw) (wc WriteConcern, err error) {
	wc = WriteConcern{Given: true, W: 1}
	wGiven := false
	for k, e := range doc.Elems() {
		switch k {
		case "w":
			wGiven = true
			switch {
			case e.Type == bson.TypeString:
				wc.Mode = e.Str()
			case e.IsNumber():
				f, _ := e.AsFloat64()
				if f < 0 || f > 50 || f != math.Trunc(f) {
					return wc, mongoerr.New(mongoerr.FailedToParse, "w has to be a non-negative number and not greater than 50; found: %v", f)
				}
				wc.W = int64(f)
			case e.Type == bson.TypeDocument:
				for _, n := range e.Doc().Elems() {
					if !n.IsNumber() {
						return wc, mongoerr.New(mongoerr.FailedToParse, "tags must be a single level document with only number values")
					}
				}
				wc.Tags = e.Doc()
			case e.Type == bson.TypeNull:
			default:
				return wc, mongoerr.New(mongoerr.FailedToParse, "w has to be a number, string, or object; found: %s", e.Type)
			}
		case "j", "fsync":
			if !TBoolLike.Allows(e.Type) && e.Type != bson.TypeNull {
				return wc, mongoerr.New(mongoerr.FailedToParse, "%s must be numeric or boolean value", k)
			}
			wc.J, wc.JGiven = wc.J || e.Truthy(), true
		case "wtimeout":
			n, ok := e.AsInt64()
			if !ok && e.IsNumber() {
				f, _ := e.AsFloat64()
				n, ok = int64(f), true
			}
			if !ok || n > math.MaxInt32 {
				return wc, mongoerr.New(mongoerr.FailedToParse, "wtimeout must be a number and within range")
			}
			wc.WTimeout = time.Duration(max(n, 0)) * time.Millisecond
		case "provenance", "getLastError":
		default:
			return wc, unknownField("WriteConcern." + k)
		}
	}
	if wGiven && wc.Mode == "" && wc.W == 0 && wc.J {
		return wc, mongoerr.New(mongoerr.FailedToParse, "cannot have w: 0 and j: true") // as the drivers' own check
	}
	return wc, nil
}
