package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cairndb/cairn/internal/bson"
	"github.com/cairndb/cairn/internal/bson/extjson"
	"github.com/cairndb/cairn/internal/storage"
)

// ValidateResult is what validate found, on one snapshot.
type ValidateResult struct {
	Records          int64
	DataSize         int64
	InvalidDocuments int64
	Indexes          []IndexResult
	Errors           []string
	Warnings         []string
	// Missing and Extra are index entries that should be there, or not: {indexName, recordId,
	// idKey, indexKey}; at most some hundred are listed.
	Missing, Extra []bson.Raw
}

// IndexResult is what validate found in one index.
type IndexResult struct {
	Name   string
	Keys   int64
	Errors []string
}

// Valid reports whether everything was as it should be.
func (r *ValidateResult) Valid() bool {
	for _, ix := range r.Indexes {
		if len(ix.Errors) > 0 {
			return false
		}
	}
	return len(r.Errors) == 0
}

// maxListed bounds the lists of missing and extra entries.
const maxListed = 200

// sortMemory is what the sorters of one validation may take in sum.
const sortMemory = 100 << 20

// Validate checks the documents and, if full is set, that every index holds exactly the
// entries of the documents, type bits included. It works on a snapshot beside writers.
func (c *Collection) Validate(ctx context.Context, full bool) (res *ValidateResult, err error) {
	if c.IsOplog() {
		return &ValidateResult{Records: c.Count(), DataSize: c.DataSize(), Warnings: []string{"the log is checked by its own checksums when it is read"}}, nil
	}
	snap, err := c.cat.eng.Snapshot()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	v := &validation{c: c, snap: snap, ctx: ctx, res: &ValidateResult{}}
	defer func() { err = errors.Join(err, v.close()) }()
	list := c.Indexes()
	for _, ix := range list {
		iv := &indexValidation{ix: ix, sorter: c.cat.eng.NewSorter(sortMemory / int64(len(list)))}
		if iv.stored, err = loadMultikey(snap, ix.Store.Table); err != nil {
			return nil, err
		}
		iv.res.Name = ix.Spec.Name
		v.indexes = append(v.indexes, iv)
	}
	if err := v.records(full); err != nil {
		return nil, err
	}
	for _, iv := range v.indexes {
		if err := v.index(iv, full); err != nil {
			return nil, err
		}
		v.res.Indexes = append(v.res.Indexes, iv.res)
	}
	return v.res, v.counters()
}

type validation struct {
	c       *Collection
	snap    *storage.Snapshot
	ctx     context.Context
	res     *ValidateResult
	indexes []*indexValidation
}

type indexValidation struct {
	ix     *Index
	sorter *storage.Sorter
	stored multikeyBits
	want   int64
	res    IndexResult
}

func (v *validation) close() (err error) {
	for _, iv := range v.indexes {
		err = errors.Join(err, iv.sorter.Close())
	}
	return err
}

// records checks every document and sorts the index entries that it should have.
func (v *validation) records(full bool) (err error) {
	cur := v.c.store.Cursor(v.snap, storage.Forward)
	defer func() { err = errors.Join(err, cur.Close()) }()
	for cur.Next() {
		if v.res.Records++; v.res.Records%128 == 0 && v.ctx.Err() != nil {
			return context.Cause(v.ctx)
		}
		doc := bson.Raw(cur.Value())
		v.res.DataSize += int64(len(doc))
		if err := bson.Validate(doc, bson.MaxDepth); err != nil {
			v.res.InvalidDocuments++
			v.res.Errors = append(v.res.Errors, fmt.Sprintf("record %d is not a valid document: %v", cur.RecordID(), err))
			continue
		}
		if !full {
			continue
		}
		for _, iv := range v.indexes {
			if err := iv.addWanted(doc, cur.RecordID()); err != nil {
				return err
			}
		}
	}
	return cur.Err()
}

func (iv *indexValidation) addWanted(doc bson.Raw, id storage.RecordID) error {
	s := getScratch()
	defer s.put()
	plain := *iv.ix
	plain.state = &indexState{} // what is met here says nothing to readers
	if err := s.addKeys(&plain, doc, 0, false); err != nil {
		iv.res.Errors = append(iv.res.Errors, fmt.Sprintf("record %d cannot be indexed: %v", id, err))
		return nil
	}
	for _, m := range s.mk {
		for f, b := range m.bits {
			if b&^iv.stored[f] != 0 {
				iv.res.Errors = append(iv.res.Errors, fmt.Sprintf("index is not multikey but record %d has an array on its path", id))
				break
			}
		}
	}
	for _, op := range s.ops {
		iv.want++
		if err := iv.sorter.Add(storage.AppendRecordID(bytes.Clone(s.keys.key(op.span)), id), s.keys.bits(op.span)); err != nil {
			return err
		}
	}
	return nil
}

// index walks over an index and the sorted entries that it should have, side by side.
func (v *validation) index(iv *indexValidation, full bool) (err error) {
	cur := iv.ix.Store.Cursor(v.snap, storage.Forward, storage.IndexBounds{})
	defer func() { err = errors.Join(err, cur.Close()) }()
	if !full {
		for cur.Next() {
			iv.res.Keys++
		}
		return cur.Err()
	}
	want, err := iv.sorter.Sorted()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, want.Close()) }()
	missing, extra := 0, 0
	var have, last []byte
	haveOK, wantOK := cur.Next(), want.Next()
	for haveOK || wantOK {
		if haveOK {
			have = storage.AppendRecordID(append(have[:0], cur.KeyString()...), cur.RecordID())
		}
		cmp := 0
		switch {
		case !haveOK:
			cmp = 1
		case !wantOK:
			cmp = -1
		default:
			cmp = bytes.Compare(have, want.Key())
		}
		switch {
		case cmp > 0:
			if missing++; missing <= maxListed {
				v.res.Missing = append(v.res.Missing, v.entry(iv.ix, want.Key(), want.Value()))
			}
			wantOK = want.Next()
			continue
		case cmp < 0:
			if extra++; extra <= maxListed {
				v.res.Extra = append(v.res.Extra, v.entry(iv.ix, have, cur.TypeBits()))
			}
		default:
			if !bytes.Equal(cur.TypeBits(), want.Value()) {
				iv.res.Errors = append(iv.res.Errors, fmt.Sprintf("the entry of record %d has other type bits than its document", cur.RecordID()))
			}
			wantOK = want.Next()
		}
		iv.res.Keys++
		if iv.ix.Spec.Unique && bytes.Equal(last, cur.KeyString()) {
			iv.res.Errors = append(iv.res.Errors, fmt.Sprintf("unique index has a key twice, at record %d", cur.RecordID()))
		}
		last = append(last[:0], cur.KeyString()...)
		haveOK = cur.Next()
	}
	if missing > 0 || extra > 0 {
		iv.res.Errors = append(iv.res.Errors, fmt.Sprintf("%d entries are missing, %d are too many", missing, extra))
	}
	return errors.Join(cur.Err(), want.Err())
}

// entry describes an index entry as validate's reply does.
func (v *validation) entry(ix *Index, entry, bits []byte) bson.Raw {
	key, id := entry[:len(entry)-8], storage.DecodeRecordID(entry[len(entry)-8:])
	b := bson.NewBuilder(nil).Str("indexName", ix.Spec.Name).Int64("recordId", int64(id))
	if doc, err := v.c.store.Get(v.snap, id, nil); err == nil {
		b.Append("idKey", bson.Raw(doc).Get("_id"))
	}
	if d, err := ix.decodeKey(key, bits); err == nil {
		b.AppendDoc("indexKey", d)
	}
	return b.Finish()
}

// counters compares the stored counters with what was found.
func (v *validation) counters() error {
	d, _, err := loadCounters(v.snap, v.c.store.Table)
	if err != nil {
		return err
	}
	if d.count != v.res.Records || d.size != v.res.DataSize {
		v.res.Errors = append(v.res.Errors, fmt.Sprintf("the collection counts %d documents of %d bytes, there are %d of %d", d.count, d.size, v.res.Records, v.res.DataSize))
	}
	return nil
}

// String is a short account for tests and logs.
func (r *ValidateResult) String() string {
	s := fmt.Sprintf("%d records, %d bytes", r.Records, r.DataSize)
	for _, ix := range r.Indexes {
		s += fmt.Sprintf("; %s: %d keys", ix.Name, ix.Keys)
		for _, e := range ix.Errors {
			s += ", " + e
		}
	}
	for _, e := range r.Errors {
		s += "; " + e
	}
	for _, e := range append(r.Missing, r.Extra...) {
		s += "; " + extjson.String(e)
	}
	return s
}
