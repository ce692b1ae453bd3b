package load

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cairndb/cairn/cairntest"
	"github.com/cairndb/cairn/internal/bson"
)

func target(t *testing.T) *Target {
	c, err := mongo.Connect(options.Client().ApplyURI(cairntest.Start(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(context.Background()) })
	return &Target{Client: c, Workers: 3}
}

func TestInsertReadsBackEqual(t *testing.T) {
	ctx, tg := context.Background(), target(t)
	var data bytes.Buffer
	for i := range 12_000 {
		data.Write(bson.D("_id", i, "text", strings.Repeat("x", i%900)))
	}
	data.Write(bson.D("_id", "big", "b", strings.Repeat("y", 15<<20)))
	seen := int64(0)
	got, err := tg.Insert(ctx, "d.c", &data, true, func(n int64) { seen += n })
	if err != nil {
		t.Fatal(err)
	}
	back, err := tg.Sum(ctx, "d.c")
	if err != nil || !back.Equal(got.Sum) || seen != 12_001 || got.Doubled != 0 {
		t.Errorf("%+v, read back %+v, seen %d, %v", got, back, seen, err)
	}
}

func TestInsertDoubled(t *testing.T) {
	ctx, tg := context.Background(), target(t)
	data := append(bson.D("_id", 1, "a", 1), bson.D("_id", 1, "a", 2)...)
	got, err := tg.Insert(ctx, "d.c", bytes.NewReader(data), false, func(int64) {})
	if err != nil || got.Doubled != 1 || got.Sum.Documents != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := tg.Insert(ctx, "d.c", bytes.NewReader(data), true, func(int64) {}); err == nil {
		t.Error("a doubled document in a capped collection was taken")
	}
}

func TestInsertDamagedStream(t *testing.T) {
	ctx, tg := context.Background(), target(t)
	doc := bson.D("_id", 1)
	for name, data := range map[string][]byte{"cut": doc[:len(doc)-1], "length": {3, 0, 0, 0, 0}, "half a length": {1}, "huge": {0, 0, 0, 127, 0}} {
		if _, err := tg.Insert(ctx, "d.c", bytes.NewReader(data), false, func(int64) {}); err == nil || !strings.Contains(err.Error(), "d.c") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCreateAndBuild(t *testing.T) {
	ctx, tg := context.Background(), target(t)
	for _, preserve := range []bool{true, false} {
		tg.PreserveUUID = preserve
		ns := fmt.Sprintf("d.c%v", preserve)
		id := bson.UUID{1, 2, 3, 4, 5, 6, 0x40, 8, 0x80}
		if err := tg.Create(ctx, ns, id, bson.D("capped", true, "size", 4096)); err != nil {
			t.Fatal(err)
		}
		if err := tg.Build(ctx, ns, []bson.Raw{bson.D("v", 2, "key", bson.D("a", 1), "name", "a_1")}); err != nil {
			t.Fatal(err)
		}
		reply, err := tg.run(ctx, "d", bson.D("listCollections", 1, "filter", bson.D("name", strings.TrimPrefix(ns, "d."))))
		if err != nil {
			t.Fatal(err)
		}
		_, first := reply.Path("cursor.firstBatch").Doc().First()
		got, _ := first.Doc().Path("info.uuid").UUID()
		if (got == id) != preserve || !first.Doc().Path("options.capped").Bool() {
			t.Errorf("preserve %v: %v", preserve, first)
		}
	}
	if err := tg.Build(ctx, "d.c", []bson.Raw{bson.D("name", "bad")}); err == nil || !strings.Contains(err.Error(), "bad of d.c") {
		t.Errorf("%v", err)
	}
	if err := tg.Drop(ctx, "d.none"); err != nil {
		t.Error(err)
	}
}
