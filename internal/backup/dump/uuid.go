package dump

import (
	"bytes"
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// follows says that an intent's collection is followed over renames.
func (d *Dump) follows(i *intent) bool { return d.tail != nil && len(i.uuid) == 16 && !i.isView() }

// byUUID says that a find can name the collection it wants: then one that was renamed or
// replaced is an error, and not another collection's documents.
func (d *Dump) byUUID(i *intent) bool {
	return !d.opts.Original && len(i.uuid) == 16 && !d.server.Mongos && d.server.AtLeast(6, 0, 0) && !i.isTimeseries()
}

// locate finds what a collection is called now. Without a UUID it is the name.
func (d *Dump) locate(ctx context.Context, i *intent) (name string, found bool, err error) {
	name = i.live
	if name == "" {
		name = i.coll
	}
	if len(i.uuid) != 16 {
		ci, err := d.collectionInfo(ctx, i.db, name)
		return name, ci != nil, err
	}
	l, err := d.listCollections(ctx, i.db, bson.D{{Key: "info.uuid", Value: bson.Binary{Subtype: 4, Data: i.uuid}}})
	if err != nil {
		return name, false, err
	}
	for n := range l {
		if bytes.Equal(l[n].uuid(), i.uuid) {
			if l[n].Name != name && d.tail == nil {
				return name, false, nil // without an oplog nothing would say that they are the same
			}
			return l[n].Name, true, nil
		}
	}
	return name, false, nil
}
