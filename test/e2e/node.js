'use strict';
// The Node driver's suite: node node.js mongodb://…
const { MongoClient, Long, Decimal128, Binary, Timestamp, ObjectId, BSONRegExp, MinKey, MaxKey, Int32, Double } = require('mongodb');
const { assert, check, run, rejectsWith } = require('./check.js');

const replset = process.env.CAIRN_FACE === 'replset';

run(async (uri) => {
  const client = await new MongoClient(uri, { serverSelectionTimeoutMS: 15000, monitorCommands: true, promoteValues: true }).connect();
  const db = client.db('e2e_node');
  await db.dropDatabase();
  await crud(db);
  await bulk(client, db);
  await cursors(db);
  await sessions(client, db);
  await retryable(uri, client);
  await tailable(db);
  await compression(uri);
  await faces(client);
  await check('dropDatabase', async () => assert.equal(await db.dropDatabase(), true));
  await client.close();
});

async function crud(db) {
  const c = db.collection('crud');
  await check('insertOne, insertMany', async () => {
    assert.deepEqual(await c.insertOne({ _id: 1, a: 1 }), { acknowledged: true, insertedId: 1 });
    assert.equal((await c.insertMany([{ _id: 2, a: 2 }, { _id: 3, a: 3 }])).insertedCount, 2);
  });
  await check('find, findOne, sort, projection', async () => {
    assert.deepEqual(await c.find({ a: { $gte: 2 } }, { projection: { _id: 0 }, sort: { a: -1 } }).toArray(), [{ a: 3 }, { a: 2 }]);
    assert.equal(await c.findOne({ a: 77 }), null);
  });
  await check('updateOne, updateMany, replaceOne, upsert', async () => {
    assert.equal((await c.updateOne({ _id: 1 }, { $set: { b: { c: 1 } } })).modifiedCount, 1);
    assert.equal((await c.updateOne({ _id: 1 }, { $set: { b: { c: 1 } } })).modifiedCount, 0);
    assert.equal((await c.updateMany({}, { $inc: { a: 10 } })).modifiedCount, 3);
    assert.equal((await c.replaceOne({ _id: 3 }, { z: 1 })).modifiedCount, 1);
    assert.deepEqual((await c.updateOne({ _id: 'new' }, { $set: { x: 1 } }, { upsert: true })).upsertedId, 'new');
  });
  await check('findOneAndUpdate and its kin', async () => {
    assert.deepEqual(await c.findOneAndUpdate({ _id: 1 }, { $set: { d: 1 } }, { returnDocument: 'after', projection: { d: 1 } }), { _id: 1, d: 1 });
    assert.deepEqual(await c.findOneAndReplace({ _id: 'new' }, { y: 2 }), { _id: 'new', x: 1 });
    assert.deepEqual(await c.findOneAndDelete({ _id: 'new' }), { _id: 'new', y: 2 });
    assert.equal(await c.findOneAndDelete({ _id: 'new' }), null);
  });
  await check('count, distinct, aggregate', async () => {
    assert.equal(await c.countDocuments({ a: { $exists: true } }), 2);
    assert.equal(await c.estimatedDocumentCount(), 3);
    assert.deepEqual((await c.distinct('a')).sort(), [11, 12]);
    assert.deepEqual(await c.aggregate([{ $group: { _id: null, s: { $sum: '$a' } } }]).toArray(), [{ _id: null, s: 23 }]);
  });
  await check('types survive a round trip', async () => {
    const doc = { _id: 't', l: Long.fromString('9223372036854775807'), dec: Decimal128.fromString('-1.23E+7'), bin: new Binary(Buffer.from('abc'), 5),
      ts: new Timestamp({ t: 1, i: 2 }), oid: new ObjectId(), re: new BSONRegExp('a|b', 'i'), min: new MinKey(), max: new MaxKey(), d: new Date(1),
      i: new Int32(7), f: new Double(7), neg0: new Double(-0), s: 'zażółć 🪨', n: null, e: {}, ea: [], nest: [[{ a: [1] }]] };
    await c.insertOne(doc);
    const raw = await c.findOne({ _id: 't' }, { promoteValues: false, bsonRegExp: true });
    for (const k of Object.keys(doc)) if (k !== '_id') assert.deepEqual(JSON.stringify(raw[k]), JSON.stringify(doc[k]), k);
    assert.equal(raw.f._bsontype, 'Double');
    assert.ok(Object.is(raw.neg0.value, -0));
  });
  await check('indexes: create, list, unique violation, drop', async () => {
    assert.equal(await c.createIndex({ u: 1 }, { unique: true, sparse: true }), 'u_1');
    await c.insertOne({ u: 5 });
    await assert.rejects(c.insertOne({ u: 5 }), (e) => {
      assert.equal(e.code, 11000);
      assert.deepEqual([e.keyPattern, e.keyValue], [{ u: 1 }, { u: 5 }]);
      return true;
    });
    assert.deepEqual((await c.indexes()).map((i) => i.name), ['_id_', 'u_1']);
    assert.equal((await c.find({ u: 5 }).explain()).queryPlanner.winningPlan.inputStage.stage, 'IXSCAN');
    await c.dropIndex('u_1');
  });
  await check('200 concurrent inserts and increments', async () => {
    await Promise.all(Array.from({ length: 200 }, (_, i) => c.insertOne({ par: i })));
    await Promise.all(Array.from({ length: 200 }, () => c.updateOne({ _id: 'inc' }, { $inc: { n: 1 } }, { upsert: true })));
    assert.equal(await c.countDocuments({ par: { $exists: true } }), 200);
    assert.equal((await c.findOne({ _id: 'inc' })).n, 200);
  });
}

async function bulk(client, db) {
  const c = db.collection('bulk');
  await check('bulkWrite, ordered: stops at the first error', async () => {
    const e = await c.bulkWrite([{ insertOne: { document: { _id: 1 } } }, { insertOne: { document: { _id: 1 } } }, { insertOne: { document: { _id: 2 } } }]).catch((x) => x);
    assert.equal(e.code, 11000);
    assert.deepEqual([e.result.insertedCount, e.writeErrors.length, e.writeErrors[0].index], [1, 1, 1]);
  });
  await check('bulkWrite, unordered: an error costs only itself', async () => {
    const e = await c.bulkWrite([{ insertOne: { document: { _id: 1 } } }, { insertOne: { document: { _id: 3 } } }, { insertOne: { document: { _id: 3 } } },
      { updateOne: { filter: { _id: 3 }, update: { $set: { x: 1 } } } }, { deleteMany: { filter: { _id: 1 } } }], { ordered: false }).catch((x) => x);
    assert.deepEqual(e.writeErrors.map((w) => w.index), [0, 2]);
    assert.deepEqual([e.result.insertedCount, e.result.modifiedCount, e.result.deletedCount], [1, 1, 1]);
  });
  await check('client.bulkWrite over two collections', async () => {
    const r = await client.bulkWrite([
      { namespace: 'e2e_node.b1', name: 'insertOne', document: { _id: 1 } }, { namespace: 'e2e_node.b2', name: 'insertOne', document: { _id: 1, n: 1 } },
      { namespace: 'e2e_node.b2', name: 'updateOne', filter: { _id: 1 }, update: { $inc: { n: 4 } } }, { namespace: 'e2e_node.b1', name: 'deleteOne', filter: { _id: 1 } },
    ]);
    assert.deepEqual([r.insertedCount, r.modifiedCount, r.deletedCount], [2, 1, 1]);
    assert.equal((await db.collection('b2').findOne()).n, 5);
  });
  await check('insertMany of 20,000 documents', async () => {
    const r = await db.collection('many').insertMany(Array.from({ length: 20000 }, (_, i) => ({ _id: i, pad: 'x'.repeat(500) })));
    assert.equal(r.insertedCount, 20000);
  });
}

async function cursors(db) {
  const many = db.collection('many');
  await check('a cursor over batches of all sizes', async () => {
    assert.equal((await many.find().batchSize(999).toArray()).length, 20000);
    let n = 0;
    for await (const d of many.find({ _id: { $lt: 50 } }).sort({ _id: 1 }).batchSize(3)) assert.equal(d._id, n++);
    assert.equal(n, 50);
  });
  await check('a closed cursor is gone on the server', async () => {
    const first = await db.command({ find: 'many', batchSize: 2 });
    const killed = await db.command({ killCursors: 'many', cursors: [Long.fromString(String(first.cursor.id))] });
    assert.equal(killed.cursorsKilled.length, 1);
    await rejectsWith(db.command({ getMore: Long.fromString(String(first.cursor.id)), collection: 'many' }), 43);
  });
  await check('maxTimeMS, comment, let, hint, collation refused or honoured', async () => {
    assert.equal((await many.find({ $expr: { $eq: ['$_id', '$$x'] } }, { let: { x: 5 }, comment: 'hi', maxTimeMS: 20000, hint: { _id: 1 } }).toArray()).length, 1);
    await rejectsWith(many.find({ _id: 1 }, { hint: 'nosuch' }).toArray(), 2);
  });
}

async function sessions(client, db) {
  await check('explicit session, causal reads', async () => {
    await client.withSession({ causalConsistency: true }, async (session) => {
      await db.collection('s').insertOne({ _id: 1 }, { session });
      assert.equal((await db.collection('s').findOne({}, { session }))._id, 1);
      if (replset) assert.ok(session.operationTime, 'operationTime');
    });
  });
  await check('endSessions, refreshSessions', async () => {
    const id = { id: new Binary(Buffer.alloc(16, 7), 4) };
    assert.equal((await db.admin().command({ refreshSessions: [id] })).ok, 1);
    assert.equal((await db.admin().command({ endSessions: [id] })).ok, 1);
  });
}

async function retryable(uri, client) {
  if (!replset) return;
  await check('a retried write runs once (failCommand closeConnection)', async () => {
    const admin = client.db('admin');
    const c = new MongoClient(uri, { retryWrites: true });
    try {
      await c.connect();
      const coll = c.db('e2e_node').collection('retry');
      for (const cmd of ['insert', 'update', 'findAndModify', 'delete']) {
        await admin.command({ configureFailPoint: 'failCommand', mode: { times: 1 }, data: { failCommands: [cmd], closeConnection: true } });
        if (cmd === 'insert') await coll.insertOne({ _id: 1, n: 0 });
        if (cmd === 'update') assert.equal((await coll.updateOne({ _id: 1 }, { $inc: { n: 1 } })).modifiedCount, 1);
        if (cmd === 'findAndModify') assert.equal((await coll.findOneAndUpdate({ _id: 1 }, { $inc: { n: 1 } }, { returnDocument: 'after' })).n, 2);
        if (cmd === 'delete') assert.equal((await coll.deleteOne({ _id: 1 })).deletedCount, 1);
      }
      await admin.command({ configureFailPoint: 'failCommand', mode: { times: 1 }, data: { failCommands: ['insert'], errorCode: 91, errorLabels: ['RetryableWriteError'] } });
      await coll.insertOne({ _id: 2 });
      assert.equal(await coll.countDocuments(), 1);
    } finally {
      await admin.command({ configureFailPoint: 'failCommand', mode: 'off' }).catch(() => {});
      await c.close();
    }
  });
  await check('the same txnNumber twice is one write', async () => {
    const own = await new MongoClient(uri).connect(); // this session must not go back to the other checks' pool
    const session = own.startSession();
    const cmd = { insert: 'once', documents: [{ _id: 1 }], txnNumber: Long.fromNumber(1000) };
    const db = own.db('e2e_node');
    assert.equal((await db.command(cmd, { session })).n, 1);
    assert.equal((await db.command(cmd, { session })).n, 1);
    assert.equal(await db.collection('once').countDocuments(), 1);
    await db.command({ ...cmd, documents: [{ _id: 2 }], txnNumber: Long.fromNumber(1001) }, { session });
    await rejectsWith(db.command(cmd, { session }), 225);
    await session.endSession();
    await own.close();
  });
}

async function tailable(db) {
  await check('tailable awaitData cursor on a capped collection', async () => {
    const c = await db.createCollection('capped', { capped: true, size: 1 << 20 });
    await c.insertMany([{ i: 0 }, { i: 1 }]);
    const cursor = c.find({}, { tailable: true, awaitData: true, maxAwaitTimeMS: 10000 });
    assert.deepEqual([(await cursor.next()).i, (await cursor.next()).i], [0, 1]);
    const begin = Date.now();
    const next = cursor.next();
    await c.insertOne({ i: 2 });
    assert.equal((await next).i, 2);
    assert.ok(Date.now() - begin < 5000, 'the waiting getMore was not woken by the insert');
    await cursor.close();
  });
  await check('a tailable cursor needs a capped collection', async () => {
    await rejectsWith(db.collection('crud').find({}, { tailable: true }).toArray(), 2);
  });
}

async function compression(uri) {
  for (const name of ['snappy', 'zlib']) {
    await check('compression ' + name, async () => {
      const c = new MongoClient(uri, { compressors: [name] });
      try {
        await c.connect();
        const hello = await c.db('admin').command({ hello: 1, compression: [name] });
        assert.deepEqual(hello.compression, [name]);
        const coll = c.db('e2e_node').collection('z_' + name);
        await coll.insertMany(Array.from({ length: 500 }, (_, i) => ({ _id: i, pad: 'y'.repeat(2000) })));
        const docs = await coll.find().toArray();
        assert.deepEqual([docs.length, docs[499].pad.length], [500, 2000]);
      } finally {
        await c.close();
      }
    });
  }
}

async function faces(client) {
  await check(replset ? 'the driver sees a replica set with a primary' : 'the driver sees a standalone', async () => {
    const type = client.topology.description.type;
    assert.equal(type, replset ? 'ReplicaSetWithPrimary' : 'Single');
    const hello = await client.db('admin').command({ hello: 1 });
    assert.equal(hello.setName, replset ? 'rs0' : undefined);
  });
  if (!replset) return;
  await check('majority write and read concern, read preference secondaryPreferred', async () => {
    const c = client.db('e2e_node').collection('maj', { writeConcern: { w: 'majority' }, readConcern: { level: 'majority' }, readPreference: 'secondaryPreferred' });
    await c.insertOne({ _id: 1 });
    assert.equal((await c.findOne())._id, 1);
  });
}
