package dump

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// metadata is the document of a .metadata.json file, in the original's order of fields.
type metadata struct {
	Options        bson.Raw   `bson:"options,omitempty"`
	Indexes        []bson.Raw `bson:"indexes"`
	UUID           string     `bson:"uuid,omitempty"`
	CollectionName string     `bson:"collectionName"`
	Type           string     `bson:"type,omitempty"`
}

// encodeMetadata writes canonical extended JSON, and reads it back: what does not come
// back as it was would not be restored as it was.
func encodeMetadata(m metadata) ([]byte, error) {
	if m.Indexes == nil {
		m.Indexes = []bson.Raw{} // [] and not null, which old tools cannot read
	}
	if isEmptyDoc(m.Options) {
		m.Options = nil
	}
	doc, err := bson.Marshal(m)
	if err != nil {
		return nil, err
	}
	text, err := bson.MarshalExtJSON(bson.Raw(doc), true, false)
	if err != nil {
		return nil, err
	}
	var back bson.D
	if err := bson.UnmarshalExtJSON(text, true, &back); err != nil {
		return nil, fmt.Errorf("marshal is not reversible: %w", err)
	}
	again, err := bson.Marshal(back)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(doc, again) {
		return nil, errors.New("marshaling BSON to ExtJSON and back resulted in discrepancies")
	}
	return text, nil
}

func isEmptyDoc(d bson.Raw) bool { return len(d) <= 5 }

// readMetadata fills i.meta; it stays nil if the collection is gone.
func (d *Dump) readMetadata(ctx context.Context, i *intent) error {
	m := metadata{Options: i.options, UUID: i.uuidHex(), CollectionName: i.coll, Type: i.kind}
	d.log.DebugHigh("\treading indexes for %#q", i.namespace())
	if i.phantom {
		m.Indexes = nil
	} else if d.opts.Output.ViewsAsCollections || i.isView() {
		d.log.Debug("not dumping indexes metadata for %#q because it is a view", i.namespace())
	} else {
		var err error
		if m.Indexes, err = d.readIndexes(ctx, i); err != nil {
			return err
		}
		if m.Indexes == nil {
			d.log.Always("the collection %#q appears to have been dropped after the dump started", i.namespace())
			i.dropped = true
			if !d.follows(i) {
				return nil
			}
			// The oplog that goes with the copy has writes to the collection before its
			// drop: a replay must know which collection they mean.
		}
	}
	text, err := encodeMetadata(m)
	if err != nil {
		return fmt.Errorf("error marshaling metadata json for collection %#q: %v", i.namespace(), err)
	}
	i.meta = text
	return nil
}

// readIndexes returns the indexes' specifications, nil if the collection is gone. Where
// collections may be renamed, it makes sure that they are those of this collection.
func (d *Dump) readIndexes(ctx context.Context, i *intent) ([]bson.Raw, error) {
	for {
		name := i.live
		if name == "" {
			name = i.coll
		}
		list, err := listIndexes(ctx, d.client.Database(i.db).Collection(name), d.follows(i))
		if err != nil && !isGone(err) {
			return nil, fmt.Errorf("error getting indexes for collection %#q: %v", i.namespace(), err)
		}
		if !d.follows(i) {
			if err != nil || len(list) == 0 && !d.exists(ctx, i.db, name) {
				return nil, nil
			}
			return list, nil
		}
		now, found, ferr := d.locate(ctx, i)
		if ferr != nil {
			return nil, ferr
		}
		if !found {
			return nil, nil
		}
		if now == name && err == nil {
			return list, nil
		}
		i.live = now
	}
}

// listIndexes lists a collection's indexes. built leaves out those that are being built, for a
// dump whose oplog tells when they are there: restored with the data they would be there
// at a moment at which they were not yet, and perhaps never are.
func listIndexes(ctx context.Context, c *mongo.Collection, built bool) ([]bson.Raw, error) {
	var cur *mongo.Cursor
	var err error
	if built {
		cur, err = c.Database().RunCommandCursor(ctx, bson.D{{Key: "listIndexes", Value: c.Name()}, {Key: "includeBuildUUIDs", Value: true}})
	}
	var se mongo.ServerError
	if !built || errors.As(err, &se) && se.HasErrorCode(40415) { // an older server does not know the argument
		cur, err = c.Indexes().List(ctx)
	}
	if err != nil {
		return nil, err
	}
	defer cur.Close(context.WithoutCancel(ctx))
	list := []bson.Raw{}
	for cur.Next(ctx) {
		if built {
			if _, err := cur.Current.LookupErr("buildUUID"); err == nil {
				continue
			}
		}
		list = append(list, bytes.Clone(cur.Current))
	}
	return list, cur.Err()
}

// exists tells a collection without indexes from none.
func (d *Dump) exists(ctx context.Context, db, coll string) bool {
	names, err := d.client.Database(db).ListCollectionNames(ctx, bson.D{{Key: "name", Value: coll}})
	return err != nil || len(names) > 0
}
