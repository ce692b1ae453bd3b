"""Debian's pymongo (3.11) against a server: pymongo_suite.py mongodb://…

Prints "ok - what" or "not ok - what ## why", one line a check, and "done" at the end.
"""

import datetime
import os
import re
import sys
import threading
import traceback

import bson
import pymongo
from bson import decimal128, int64, objectid, timestamp
from pymongo import errors

FACE = os.environ.get("CAIRN_FACE", "standalone")
failed = []
checks = []


def check(what):
    """Registers a check; they run in the order in which they are written."""

    def add(f):
        checks.append((what, f))
        return f

    return add


def expect_code(code, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except errors.PyMongoError as e:
        got = getattr(e, "code", None)
        assert got == code, "error code %s (%s), want %s" % (got, e, code)
        return e
    raise AssertionError("accepted, want error %d" % code)


@check("insert, find, sort, projection")
def _(db):
    assert db.c.insert_one({"_id": 1, "a": 1}).inserted_id == 1
    assert db.c.insert_many([{"_id": i, "a": i} for i in range(2, 101)]).inserted_ids[-1] == 100
    assert list(db.c.find({"a": {"$gt": 98}}, {"_id": 0}).sort("a", -1)) == [{"a": 100}, {"a": 99}]
    assert db.c.count_documents({"a": {"$lte": 50}}) == 50
    assert db.c.estimated_document_count() == 100
    assert len(list(db.c.find(batch_size=7))) == 100


@check("update, replace, upsert, delete")
def _(db):
    r = db.c.update_one({"_id": 1}, {"$set": {"b": [1, 2]}, "$inc": {"a": 5}})
    assert (r.matched_count, r.modified_count) == (1, 1)
    assert db.c.update_many({"_id": {"$lte": 10}}, {"$push": {"b": 3}}).modified_count == 10
    assert db.c.find_one({"_id": 1}) == {"_id": 1, "a": 6, "b": [1, 2, 3]}
    assert db.c.replace_one({"_id": 2}, {"z": 1}).modified_count == 1
    assert db.c.update_one({"_id": "u"}, {"$setOnInsert": {"x": 1}}, upsert=True).upserted_id == "u"
    assert db.c.delete_one({"_id": "u"}).deleted_count == 1
    assert db.c.delete_many({"_id": {"$gt": 90}}).deleted_count == 10


@check("find_one_and_update, find_one_and_replace, find_one_and_delete")
def _(db):
    after = pymongo.ReturnDocument.AFTER
    got = db.c.find_one_and_update({"_id": 3}, {"$inc": {"n": 2}}, return_document=after, projection={"n": 1})
    assert got == {"_id": 3, "n": 2}, got
    got = db.c.find_one_and_update({"a": {"$gte": 4}}, {"$set": {"low": 1}}, sort=[("a", 1)], return_document=after)
    assert got["_id"] == 4, got
    assert db.c.find_one_and_replace({"_id": "none"}, {"q": 1}, upsert=True) is None
    assert db.c.find_one_and_delete({"_id": "none"}) == {"_id": "none", "q": 1}


@check("aggregation")
def _(db):
    db.sales.insert_many([{"_id": i, "item": "abc"[i % 3], "q": i, "day": datetime.datetime(2024, 1, 1 + i % 28)} for i in range(300)])
    got = list(db.sales.aggregate([{"$match": {"q": {"$lt": 30}}}, {"$group": {"_id": "$item", "sum": {"$sum": "$q"}, "avg": {"$avg": "$q"}}}, {"$sort": {"_id": 1}}]))
    assert got == [{"_id": "a", "sum": 135, "avg": 13.5}, {"_id": "b", "sum": 145, "avg": 14.5}, {"_id": "c", "sum": 155, "avg": 15.5}], got
    got = list(db.sales.aggregate([{"$group": {"_id": {"$month": "$day"}, "n": {"$sum": 1}}}]))
    assert got == [{"_id": 1, "n": 300}], got
    got = list(db.sales.aggregate([{"$project": {"big": {"$gte": ["$q", 150]}}}, {"$sortByCount": "$big"}, {"$sort": {"_id": 1}}]))
    assert got == [{"_id": False, "count": 150}, {"_id": True, "count": 150}], got
    assert len(list(db.sales.aggregate([{"$sample": {"size": 5}}]))) == 5
    assert len(list(db.sales.aggregate([], batchSize=11))) == 300


@check("indexes")
def _(db):
    assert db.sales.create_index([("item", 1), ("q", -1)]) == "item_1_q_-1"
    db.users.create_index("mail", unique=True)
    db.users.insert_one({"mail": "a"})
    e = expect_code(11000, db.users.insert_one, {"mail": "a"})
    assert e.details["keyValue"] == {"mail": "a"}, e.details
    db.users.create_index("at", expireAfterSeconds=60)
    assert sorted(db.users.index_information()) == ["_id_", "at_1", "mail_1"]
    plan = db.sales.find({"item": "a", "q": {"$gt": 290}}).explain()
    assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"]), plan["queryPlanner"]
    db.users.drop_index("at_1")
    expect_code(27, db.users.drop_index, "at_1")
    multikey = db.c.create_index("b")
    assert [d["_id"] for d in db.c.find({"b": 2})] == [1], multikey


@check("bulk write")
def _(db):
    ops = [pymongo.InsertOne({"_id": 1}), pymongo.InsertOne({"_id": 1}), pymongo.UpdateOne({"_id": 1}, {"$set": {"x": 1}}), pymongo.DeleteOne({"_id": 9})]
    try:
        db.bulk.bulk_write(ops, ordered=False)
        raise AssertionError("accepted")
    except errors.BulkWriteError as e:
        d = e.details
        assert (d["nInserted"], d["nModified"], d["nRemoved"]) == (1, 1, 0), d
        assert [(w["index"], w["code"]) for w in d["writeErrors"]] == [(1, 11000)], d


@check("types survive")
def _(db):
    doc = {"_id": "t", "i": 7, "l": int64.Int64(2**62), "f": 1.5, "s": "zażółć", "d": datetime.datetime(2024, 2, 29, 1, 2, 3, 4000), "n": None,
           "dec": decimal128.Decimal128("0.10"), "o": objectid.ObjectId(), "bin": b"\x00\x01", "ts": timestamp.Timestamp(3, 4), "re": bson.Regex("^a", "i"),
           "nest": {"a": [1, [2, {"b": True}]]}, "min": bson.MinKey(), "max": bson.MaxKey(), "code": bson.Code("x")}
    db.types.insert_one(doc)
    assert db.types.find_one() == doc, db.types.find_one()
    assert db.types.find_one({"s": re.compile("^ZA", re.I)})["_id"] == "t"


@check("a document of 16 MB is accepted, a larger one refused")
def _(db):
    db.big.insert_one({"_id": 1, "s": "x" * (16 * 1024 * 1024 - 100)})
    assert len(db.big.find_one({"_id": 1})["s"]) == 16 * 1024 * 1024 - 100
    try:
        db.big.insert_one({"_id": 2, "s": "x" * (16 * 1024 * 1024 + 1)})
        raise AssertionError("accepted")
    except (errors.DocumentTooLarge, errors.WriteError, errors.OperationFailure):
        pass


@check("eight threads, one counter")
def _(db):
    def work():
        for _ in range(50):
            db.counter.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=False)

    db.counter.insert_one({"_id": 1, "n": 0})
    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert db.counter.find_one()["n"] == 400, db.counter.find_one()


@check("oplog: a tailing cursor sees every write, in order")
def _(db):
    log = db.client.local["oplog.rs"]
    last = log.find().sort("$natural", -1).limit(1).next()["ts"]
    cursor = log.find({"ts": {"$gt": last}, "ns": db.name + ".tail"}, cursor_type=pymongo.CursorType.TAILABLE_AWAIT, oplog_replay=True)
    cursor.max_await_time_ms(10000)
    seen = []

    def tail():
        while len(seen) < 202 and cursor.alive:
            for e in cursor:
                seen.append(e)
                if len(seen) >= 202:
                    return

    t = threading.Thread(target=tail, daemon=True)
    t.start()
    for i in range(200):
        db.tail.insert_one({"_id": i})
    db.tail.update_one({"_id": 5}, {"$set": {"x": 1}})
    db.tail.delete_one({"_id": 6})
    t.join(60)
    assert not t.is_alive(), "only %d entries were seen within a minute" % len(seen)
    assert [e["o"]["_id"] for e in seen[:200]] == list(range(200))
    assert seen[200]["op"] == "u" and seen[200]["o2"] == {"_id": 5} and seen[200]["o"]["diff"] == {"i": {"x": 1}}, seen[200]
    assert seen[201]["op"] == "d" and seen[201]["o"] == {"_id": 6}, seen[201]
    assert all(a["ts"] < b["ts"] for a, b in zip(seen, seen[1:])), "ts is not ascending"


@check("oplog: users cannot write or drop it")
def _(db):
    local = db.client.local
    for f in (lambda: local["oplog.rs"].insert_one({"a": 1}), lambda: local["oplog.rs"].delete_many({}), lambda: local.command("drop", "oplog.rs")):
        try:
            f()
        except errors.OperationFailure:
            continue
        raise AssertionError("accepted")


@check("oplog.$main is the oplog's other name on a standalone")
def _(db):
    if FACE != "standalone":
        return
    local = db.client.local
    assert local["oplog.$main"].find({"op": "i"}).limit(1).next()["ts"] == local["oplog.rs"].find({"op": "i"}).limit(1).next()["ts"]


@check("sessions")
def _(db):
    with db.client.start_session() as s:
        db.sess.insert_one({"_id": 1}, session=s)
        assert db.sess.find_one(session=s) == {"_id": 1}


@check("collection options, views, names")
def _(db):
    db.create_collection("cap", capped=True, size=4096, max=2)
    for i in range(4):
        db.cap.insert_one({"_id": i})
    assert [d["_id"] for d in db.cap.find()] == [2, 3]
    db.command("create", "view", viewOn="sales", pipeline=[{"$match": {"item": "a"}}])
    assert db.view.count_documents({}) == 100
    assert "sales" in db.list_collection_names() and "view" in db.list_collection_names()
    assert db.name in db.client.list_database_names()
    assert db.command("validate", "sales", full=True)["valid"]
    assert db.command("dbstats")["objects"] > 300


def main(uri):
    client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=15000)
    db = client["e2e_pymongo"]
    client.drop_database(db.name)
    for what, f in checks:
        try:
            f(db)
            print("ok - " + what)
        except Exception as e:  # pylint: disable=broad-except
            failed.append(what)
            line = traceback.extract_tb(e.__traceback__)[-1].lineno
            first = traceback.extract_tb(e.__traceback__)[1].lineno
            print("not ok - %s ## %s: %s (lines %d, %d)" % (what, type(e).__name__, " ".join(str(e).split())[:600], first, line))
    client.drop_database(db.name)
    client.close()
    print("done")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
