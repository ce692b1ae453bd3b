package dump

import (
	"bytes"
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// follows says that an intent's collection is followed over renames.
func (d *Dump) follows(i *intent) bool { return d.tail != nil && len(i.uuid) == 16 && !i.isView() }

// byUUID says that a find can name the collection it wants: then one that was renamed or
// replaced is an error, and not another collection's documents.
func (d *Dump) byUUID(i *intent) bool { return d.checksUUID(i) && !d.noUUIDArg.Load() }

// checksUUID says that a cursor must be on the collection of an intent's UUID.
func (d *Dump) checksUUID(i *intent) bool {
	return !d.opts.Original && len(i.uuid) == 16 && !d.server.Mongos && !i.isTimeseries() && !i.isView()
}

// errReplaced is a collection whose name has another UUID by now.
var errReplaced = errors.New("the collection has another name by now, or is gone")

// onUUID makes sure that a cursor which was just opened by name is on the collection it is
// meant for: a cursor stays with its collection, so the name must still have the UUID.
func (d *Dump) onUUID(ctx context.Context, i *intent, coll string) error {
	if !d.checksUUID(i) || !d.noUUIDArg.Load() {
		return nil
	}
	ci, err := d.collectionInfo(ctx, i.db, coll)
	if err != nil {
		return err
	}
	if ci == nil || !bytes.Equal(ci.uuid(), i.uuid) {
		return errReplaced
	}
	return nil
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
