package repo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Record is a small piece of state: a gap, the result of a drill, where a run stands.
type Record struct {
	Kind    string          `json:"kind"`
	ID      string          `json:"id"`
	Updated time.Time       `json:"updated"`
	Data    json.RawMessage `json:"data"`
}

// recordName hides kind and id if the repository is encrypted.
func (r *Repo) recordName(kind, id string) string {
	if r.keys.encrypted() {
		id = r.keys.hideName(kind + "/" + id)
	}
	return r.recordPrefix(kind) + id
}

func (r *Repo) recordPrefix(kind string) string {
	return kindRecord.prefix() + r.keys.hideName(kind) + "/"
}

// PutRecord writes a record, over the one with the same kind and id if there is one. Kind and id
// are up to 100 letters, digits and "-_.".
func (r *Repo) PutRecord(ctx context.Context, kind, id string, v any) error {
	if !validName(kind) || !validName(id) {
		return fmt.Errorf("record %q %q: kind and id are up to 100 letters, digits, - and _", kind, id)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record %s %s: %w", kind, id, err)
	}
	name := r.recordName(kind, id)
	object, err := r.sealJSON(kindRecord, name, &Record{kind, id, r.now().UTC(), data})
	if err != nil {
		return err
	}
	return r.store.put(ctx, name, object)
}

// Records reads all records of a kind, in the order of their ids.
func (r *Repo) Records(ctx context.Context, kind string) ([]Record, error) {
	objects, err := r.store.list(ctx, r.recordPrefix(kind))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = o.name
	}
	var out []Record
	err = inOrder(ctx, 8, names, func(ctx context.Context, name string) (*Record, error) {
		rec, err := r.readRecord(ctx, name)
		if isNotFound(err) {
			return nil, nil
		}
		return rec, err
	}, func(_ string, rec *Record) error {
		if rec != nil {
			out = append(out, *rec)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.ID, b.ID) })
	return out, err
}

// Record reads one into v; false if there is none.
func (r *Repo) Record(ctx context.Context, kind, id string, v any) (bool, error) {
	rec, err := r.readRecord(ctx, r.recordName(kind, id))
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(rec.Data, v)
}

func (r *Repo) readRecord(ctx context.Context, name string) (*Record, error) {
	data, err := r.store.get(ctx, name)
	if err != nil {
		return nil, err
	}
	return r.decodeRecord(name, data)
}

func (r *Repo) decodeRecord(name string, data []byte) (*Record, error) {
	rec := &Record{}
	if err := r.openJSON(kindRecord, name, data, rec); err != nil {
		return nil, err
	}
	if r.recordName(rec.Kind, rec.ID) != name {
		return nil, corrupt(kindRecord, name, "it says that it is %s %s", rec.Kind, rec.ID)
	}
	return rec, nil
}

// DeleteRecord removes one; it is no error if there is none.
func (r *Repo) DeleteRecord(ctx context.Context, kind, id string) error {
	return r.store.remove(ctx, r.recordName(kind, id))
}
