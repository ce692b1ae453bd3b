package query

import (
	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/mongoerr"
)

// storable checks a document that is to be inserted and returns it as it is stored:
// _id first, made if there is none, and empty timestamps at the top filled in.
func (l *Local) storable(op *OpContext, d bson.Raw) (bson.Raw, error) {
	if len(d) > bson.MaxDocSize {
		return nil, mongoerr.New(mongoerr.BadValue, "object to insert too large. size in bytes: %d, max size: %d", len(d), bson.MaxDocSize)
	}
	first, hasID, stamps := true, false, false
	idFirst := false
	it := d.Iter()
	for it.Next() {
		v := it.Value()
		switch v.Type {
		case bson.TypeDocument, bson.TypeArray:
			if tooDeep(v.Doc(), bson.MaxDepth-1) {
				return nil, mongoerr.New(mongoerr.Overflow, "cannot insert document because it exceeds %d levels of nesting", bson.MaxDepth)
			}
		case bson.TypeTimestamp:
			stamps = stamps || (!op.KeepEmptyTS && v.Timestamp() == 0 && it.Key() != "_id")
		}
		if it.Key() == "_id" {
			if hasID {
				return nil, mongoerr.New(mongoerr.BadValue, "can't have multiple _id fields in one document")
			}
			if err := checkStoredID(v); err != nil {
				return nil, err
			}
			hasID, idFirst = true, first
		}
		first = false
	}
	if idFirst && !stamps {
		return d, nil
	}
	return l.rebuilt(op, d, hasID)
}

// rebuilt puts _id first and fills in empty timestamps.
func (l *Local) rebuilt(op *OpContext, d bson.Raw, hasID bool) (bson.Raw, error) {
	b := bson.NewBuilder(make([]byte, 0, len(d)+24))
	if hasID {
		b.Append("_id", d.Get("_id"))
	} else {
		b.ObjectID("_id", l.ids.objectID(op.Now))
	}
	for k, v := range d.Elems() {
		switch {
		case k == "_id":
		case v.Type == bson.TypeTimestamp && v.Timestamp() == 0 && !op.KeepEmptyTS:
			b.Timestamp(k, l.ids.timestamp(op.Now))
		default:
			b.Append(k, v)
		}
	}
	out := b.Finish()
	if len(out) > bson.MaxDocSize {
		return nil, mongoerr.New(mongoerr.BadValue, "object to insert too large. size in bytes: %d, max size: %d", len(out), bson.MaxDocSize)
	}
	return out, nil
}

func checkStoredID(v bson.Value) error {
	switch v.Type {
	case bson.TypeArray:
		return mongoerr.New(mongoerr.BadValue, "can't use an array for _id")
	case bson.TypeRegex:
		return mongoerr.New(mongoerr.BadValue, "can't use a regex for _id")
	case bson.TypeUndefined:
		return mongoerr.New(mongoerr.BadValue, "can't use a undefined for _id")
	case bson.TypeDocument:
		for k := range v.Doc().Elems() {
			if len(k) > 0 && k[0] == '$' {
				return mongoerr.New(mongoerr.DollarPrefixedFieldName, "_id fields may not contain '$'-prefixed fields: %s is not valid for storage.", k)
			}
		}
	}
	return nil
}

// tooDeep reports whether d nests more than levels levels, itself counted.
func tooDeep(d bson.Raw, levels int) bool {
	if levels <= 0 {
		return true
	}
	for it := d.Iter(); it.Next(); {
		switch v := it.Value(); v.Type {
		case bson.TypeDocument, bson.TypeArray:
			if tooDeep(v.Doc(), levels-1) {
				return true
			}
		}
	}
	return false
}
