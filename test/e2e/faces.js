'use strict';
// Run in turn on each face of one data directory: each run adds a document and finds those of all before.
const { MongoClient } = require('mongodb');
const { assert, check, run } = require('./check.js');

run(async (uri) => {
  const face = process.env.CAIRN_FACE;
  const client = await new MongoClient(uri, { serverSelectionTimeoutMS: 15000 }).connect();
  const c = client.db('e2e_faces').collection('marks');
  const hello = await client.db('admin').command({ hello: 1 });
  const log = client.db('local').collection('oplog.rs');
  await check('the face is ' + face, async () => assert.equal(hello.setName, face === 'replset' ? 'rs0' : undefined));
  await check('what was written before is there, in order', async () => {
    const marks = await c.find().sort({ $natural: 1 }).toArray();
    assert.deepEqual(marks.map((m) => m._id), marks.map((_, i) => i));
    await c.insertOne({ _id: marks.length, face });
  });
  await check('one log over all faces, ts ascending', async () => {
    const ids = (await log.find({ ns: 'e2e_faces.marks', op: 'i' }).sort({ $natural: 1 }).toArray());
    assert.deepEqual(ids.map((e) => e.o._id), ids.map((_, i) => i));
    for (let i = 1; i < ids.length; i++) assert.ok(ids[i - 1].ts.lessThan(ids[i].ts), 'ts of entry ' + i);
    assert.equal(ids.length, await c.countDocuments());
  });
  await client.close();
});
