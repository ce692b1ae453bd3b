// A session as a person has it, run by mongosh --file. Prints "ok - what" or "not ok - what ## why".
const face = process.env.CAIRN_FACE || 'standalone';
const d = db.getSiblingDB('e2e_mongosh');

function check(what, f) {
  try {
    f();
    print('ok - ' + what);
  } catch (e) {
    print('not ok - ' + what + ' ## ' + String(e.stack || e).split('\n').slice(0, 2).join(' ').replace(/\s+/g, ' '));
  }
}

function equal(got, want, about) {
  const g = EJSON.stringify(got), w = EJSON.stringify(want);
  if (g !== w) throw new Error((about ? about + ': ' : '') + 'got ' + g + ', want ' + w);
}

function truth(v, about) {
  if (!v) throw new Error(about || 'not true');
}

// code runs f, which must fail, and compares the error's code.
function code(f, want, about) {
  let got = 'no error';
  try {
    f();
  } catch (e) {
    got = e.code;
    if (got === undefined) throw e;
  }
  equal(got, want, about);
}

function stages(plan) {
  if (!plan) return [];
  const inner = plan.inputStages || (plan.inputStage ? [plan.inputStage] : []);
  return [plan.stage].concat(...inner.map(stages));
}

// winning names the stages of the winning plan from top to bottom.
const winning = (x) => stages(x.queryPlanner.winningPlan.queryPlan || x.queryPlanner.winningPlan);

d.dropDatabase();

check('hello and version', () => {
  const h = d.hello();
  truth(h.isWritablePrimary, 'isWritablePrimary');
  equal(h.maxBsonObjectSize, 16777216);
  equal(h.maxMessageSizeBytes, 48000000);
  equal(h.maxWriteBatchSize, 100000);
  equal(h.maxWireVersion, 25);
  truth(/^8\.0\./.test(d.version()), 'version ' + d.version());
});

check('insertOne, insertMany', () => {
  const one = d.people.insertOne({ _id: 1, name: 'Ada', age: 36, tags: ['math', 'engine'] });
  equal(one, { acknowledged: true, insertedId: 1 });
  const many = d.people.insertMany([
    { _id: 2, name: 'Grace', age: 85, tags: ['navy', 'cobol'] },
    { _id: 3, name: 'Alan', age: 41, tags: ['math'] },
    { _id: 4, name: 'Edsger', age: 72, tags: [] },
  ]);
  equal(Object.values(many.insertedIds), [2, 3, 4]);
});

check('find with filter, sort, projection, skip, limit', () => {
  equal(d.people.find({ age: { $gt: 40 } }, { _id: 0, name: 1 }).sort({ age: -1 }).toArray(),
    [{ name: 'Grace' }, { name: 'Edsger' }, { name: 'Alan' }]);
  equal(d.people.find({}, { name: 1 }).sort({ _id: 1 }).skip(1).limit(2).toArray(), [{ _id: 2, name: 'Grace' }, { _id: 3, name: 'Alan' }]);
  equal(d.people.findOne({ tags: 'math', age: { $lt: 40 } })._id, 1);
  equal(d.people.find({ $or: [{ name: /^A/ }, { tags: { $size: 0 } }] }).sort({ _id: 1 }).toArray().map((x) => x._id), [1, 3, 4]);
});

check('natural order is insertion order', () => {
  for (const i of [5, 3, 9, 1]) d.natural.insertOne({ _id: i });
  equal(d.natural.find().toArray().map((x) => x._id), [5, 3, 9, 1]);
  equal(d.natural.find().sort({ $natural: -1 }).toArray().map((x) => x._id), [1, 9, 3, 5]);
});

check('count and distinct', () => {
  equal(d.people.countDocuments({ tags: 'math' }), 2);
  equal(d.people.estimatedDocumentCount(), 4);
  equal(d.people.distinct('tags').sort(), ['cobol', 'engine', 'math', 'navy']);
});

check('updateOne, updateMany, replaceOne, upsert', () => {
  const r = d.people.updateOne({ _id: 1 }, { $set: { city: 'London' }, $inc: { age: 1 }, $push: { tags: { $each: ['poet'], $position: 0 } } });
  equal([r.matchedCount, r.modifiedCount], [1, 1]);
  equal(d.people.findOne({ _id: 1 }), { _id: 1, name: 'Ada', age: 37, tags: ['poet', 'math', 'engine'], city: 'London' });
  equal(d.people.updateMany({ age: { $gt: 40 } }, { $mul: { age: 2 } }).modifiedCount, 3);
  equal(d.people.replaceOne({ _id: 4 }, { name: 'Dijkstra' }).modifiedCount, 1);
  const up = d.people.updateOne({ _id: 7 }, { $setOnInsert: { name: 'Barbara' }, $set: { age: 84 } }, { upsert: true });
  equal([up.matchedCount, up.upsertedCount, up.insertedId], [0, 1, 7]);
  equal(d.people.findOne({ _id: 7 }), { _id: 7, age: 84, name: 'Barbara' });
});

check('array updates: positional, arrayFilters, $pull, $addToSet', () => {
  d.arrays.insertOne({ _id: 1, a: [{ k: 1, n: 1 }, { k: 2, n: 2 }, { k: 3, n: 3 }], s: [1, 2] });
  d.arrays.updateOne({ _id: 1, 'a.k': 2 }, { $set: { 'a.$.n': 20 } });
  d.arrays.updateOne({ _id: 1 }, { $inc: { 'a.$[e].n': 100 } }, { arrayFilters: [{ 'e.k': { $gte: 3 } }] });
  d.arrays.updateOne({ _id: 1 }, { $pull: { a: { k: 1 } }, $addToSet: { s: { $each: [2, 3] } } });
  equal(d.arrays.findOne(), { _id: 1, a: [{ k: 2, n: 20 }, { k: 3, n: 103 }], s: [1, 2, 3] });
});

check('pipeline update', () => {
  d.people.updateOne({ _id: 7 }, [{ $set: { label: { $concat: ['$name', '!'] }, age: { $add: ['$age', 1] } } }]);
  equal(d.people.findOne({ _id: 7 }, { _id: 0 }), { age: 85, name: 'Barbara', label: 'Barbara!' });
});

check('findOneAndUpdate, findOneAndReplace, findOneAndDelete, findAndModify', () => {
  equal(d.people.findOneAndUpdate({ _id: 7 }, { $unset: { label: '' } }, { returnDocument: 'after' }), { _id: 7, age: 85, name: 'Barbara' });
  equal(d.people.findOneAndReplace({ _id: 7 }, { name: 'B' }), { _id: 7, age: 85, name: 'Barbara' });
  equal(d.people.findOneAndDelete({ _id: 7 }, { projection: { _id: 0 } }), { name: 'B' });
  equal(d.people.findAndModify({ query: { _id: 8 }, update: { $set: { x: 1 } }, upsert: true, new: true }), { _id: 8, x: 1 });
});

check('deleteOne, deleteMany', () => {
  equal(d.people.deleteOne({ _id: 8 }).deletedCount, 1);
  d.gone.insertMany([{ a: 1 }, { a: 1 }, { a: 2 }]);
  equal(d.gone.deleteMany({ a: 1 }).deletedCount, 2);
});

check('bulkWrite', () => {
  const r = d.bulk.bulkWrite([
    { insertOne: { document: { _id: 1, n: 0 } } }, { insertOne: { document: { _id: 2, n: 0 } } },
    { updateMany: { filter: {}, update: { $inc: { n: 5 } } } }, { replaceOne: { filter: { _id: 3 }, replacement: { n: 9 }, upsert: true } },
    { deleteOne: { filter: { _id: 1 } } },
  ]);
  equal([r.insertedCount, r.matchedCount, r.modifiedCount, r.deletedCount, r.upsertedCount], [2, 2, 2, 1, 1]);
  equal(d.bulk.find().sort({ _id: 1 }).toArray(), [{ _id: 2, n: 5 }, { _id: 3, n: 9 }]);
});

check('duplicate key is E11000 with pattern and value', () => {
  try {
    d.people.insertOne({ _id: 1 });
    throw new Error('accepted');
  } catch (e) {
    equal(e.code, 11000, e.message);
    truth(/E11000 duplicate key error collection: e2e_mongosh\.people index: _id_ dup key: \{ _id: 1 \}/.test(e.message), e.message);
  }
});

d.orders.insertMany(Array.from({ length: 1000 }, (_, i) => ({ _id: i, customer: i % 50, state: i % 3 ? 'open' : 'paid', total: i, at: new Date(1700000000000 + i * 3600000) })));

// paidByCustomer computes here what the server must answer.
function paidByCustomer() {
  const totals = {};
  for (let i = 0; i < 1000; i += 3) (totals[i % 50] ||= []).push(i);
  const sum = (v) => v.reduce((a, b) => a + b);
  return Object.entries(totals)
    .map(([k, v]) => ({ _id: Number(k), sum: sum(v), avg: sum(v) / v.length, n: v.length, max: Math.max(...v) }))
    .sort((a, b) => b.sum - a.sum || a._id - b._id);
}

check('aggregate: $match $group $sort $limit', () => {
  equal(d.orders.aggregate([
    { $match: { state: 'paid' } }, { $group: { _id: '$customer', sum: { $sum: '$total' }, avg: { $avg: '$total' }, n: { $count: {} }, max: { $max: '$total' } } },
    { $sort: { sum: -1, _id: 1 } }, { $limit: 2 },
  ]).toArray(), paidByCustomer().slice(0, 2));
});

check('aggregate: $unwind $lookup $project $addFields $replaceRoot $sortByCount $facet', () => {
  d.customers.insertMany(Array.from({ length: 50 }, (_, i) => ({ _id: i, name: 'c' + i })));
  equal(d.orders.aggregate([
    { $match: { _id: { $lt: 3 } } }, { $sort: { _id: 1 } }, { $lookup: { from: 'customers', localField: 'customer', foreignField: '_id', as: 'c' } },
    { $unwind: '$c' }, { $project: { _id: 0, who: { $toUpper: '$c.name' }, twice: { $multiply: ['$total', 2] } } },
  ]).toArray(), [{ who: 'C0', twice: 0 }, { who: 'C1', twice: 2 }, { who: 'C2', twice: 4 }]);
  equal(d.people.aggregate([{ $unwind: '$tags' }, { $sortByCount: '$tags' }, { $match: { count: { $gt: 1 } } }]).toArray(), [{ _id: 'math', count: 2 }]);
  equal(d.orders.aggregate([{ $facet: { n: [{ $count: 'c' }], first: [{ $sort: { _id: 1 } }, { $limit: 1 }, { $replaceRoot: { newRoot: { x: '$total' } } }] } }]).toArray(),
    [{ n: [{ c: 1000 }], first: [{ x: 0 }] }]);
});

check('aggregate: dates, conditions, arrays', () => {
  equal(d.orders.aggregate([{ $match: { _id: 5 } }, { $project: { _id: 0, y: { $year: '$at' }, s: { $dateToString: { date: '$at', format: '%Y-%m-%d' } },
    big: { $cond: [{ $gt: ['$total', 3] }, 'yes', 'no'] }, m: { $map: { input: [1, 2], in: { $add: ['$$this', '$total'] } } } } }]).toArray(),
    [{ y: 2023, s: '2023-11-15', big: 'yes', m: [6, 7] }]);
});

check('aggregate: $out and $merge', () => {
  d.orders.aggregate([{ $match: { _id: { $lt: 10 } } }, { $project: { total: 1 } }, { $out: 'few' }]);
  equal(d.few.countDocuments({}), 10);
  d.orders.aggregate([{ $match: { _id: { $lt: 12 } } }, { $project: { total: { $add: ['$total', 1] } } }, { $merge: { into: 'few', whenMatched: 'replace' } }]);
  equal([d.few.countDocuments({}), d.few.findOne({ _id: 9 }).total], [12, 10]);
});

check('explain before an index: COLLSCAN', () => {
  equal(winning(d.orders.find({ customer: 7 }).explain()), ['COLLSCAN']);
});

check('createIndex, getIndexes, compound, unique, sparse, partial, TTL', () => {
  equal(d.orders.createIndex({ customer: 1, total: -1 }), 'customer_1_total_-1');
  equal(d.people.createIndex({ name: 1 }, { unique: true, name: 'by_name' }), 'by_name');
  d.people.createIndex({ city: 1 }, { sparse: true });
  d.orders.createIndex({ state: 1 }, { partialFilterExpression: { total: { $gt: 500 } } });
  d.sessions.createIndex({ seen: 1 }, { expireAfterSeconds: 3600 });
  equal(d.orders.getIndexes().map((x) => x.name), ['_id_', 'customer_1_total_-1', 'state_1']);
  equal(d.sessions.getIndexes()[1], { v: 2, key: { seen: 1 }, name: 'seen_1', expireAfterSeconds: 3600 });
  code(() => d.people.insertOne({ _id: 99, name: 'Ada' }), 11000, 'unique');
});

check('explain: IXSCAN, sort by index, covered, hint, executionStats', () => {
  equal(winning(d.orders.find({ customer: 7 }).sort({ total: -1 }).explain()), ['FETCH', 'IXSCAN']);
  const s = d.orders.find({ customer: 7, total: { $gte: 500 } }).explain('executionStats').executionStats;
  equal([s.nReturned, s.totalKeysExamined, s.totalDocsExamined, s.executionSuccess], [10, 10, 10, true]);
  const covered = winning(d.orders.find({ customer: 7 }, { _id: 0, customer: 1, total: 1 }).explain());
  truth(!covered.includes('FETCH') && covered.includes('IXSCAN'), 'covered: ' + covered);
  equal(winning(d.orders.find({ customer: 7 }).hint({ $natural: 1 }).explain()), ['COLLSCAN']);
  truth(d.orders.find({ customer: 7 }).explain('allPlansExecution').executionStats.allPlansExecution, 'allPlansExecution');
});

check('explain of aggregate and update', () => {
  truth(EJSON.stringify(d.orders.explain().aggregate([{ $match: { customer: 1 } }, { $group: { _id: null, n: { $sum: 1 } } }])).includes('IXSCAN'), 'aggregate');
  truth(EJSON.stringify(d.orders.explain().update({ customer: 1 }, { $set: { x: 1 } })).includes('IXSCAN'), 'update');
});

check('dropIndex', () => {
  d.orders.dropIndex('state_1');
  equal(d.orders.getIndexes().length, 2);
  code(() => d.orders.dropIndex('nosuch'), 27, 'IndexNotFound');
});

check('validate', () => {
  const v = d.orders.validate({ full: true });
  equal([v.valid, v.nrecords, v.keysPerIndex['customer_1_total_-1']], [true, 1000, 1000]);
  equal(v.errors, []);
});

check('db.stats() and collection stats', () => {
  const s = d.stats();
  truth(s.ok === 1 && s.db === 'e2e_mongosh' && Number(s.collections) >= 5 && Number(s.objects) > 1000 && s.dataSize > 10000 && Number(s.indexes) > Number(s.collections), EJSON.stringify(s));
  const c = d.orders.stats();
  equal([c.count, c.nindexes, c.ns, c.capped], [1000, 2, 'e2e_mongosh.orders', false]);
  truth(d.orders.totalSize() > 0 && d.orders.dataSize() > 0 && d.orders.totalIndexSize() >= 0, 'sizes');
});

check('show dbs, show collections', () => {
  const dbs = d.adminCommand({ listDatabases: 1 });
  truth(dbs.databases.some((x) => x.name === 'e2e_mongosh' && x.sizeOnDisk > 0 && !x.empty), EJSON.stringify(dbs));
  truth(['admin', 'config', 'local'].filter((n) => dbs.databases.some((x) => x.name === n)).includes('local'), 'local is listed');
  truth(d.getCollectionNames().includes('orders'), 'collections');
  const info = d.getCollectionInfos({ name: 'orders' })[0];
  truth(info.type === 'collection' && info.info.uuid && info.idIndex.name === '_id_', EJSON.stringify(info));
});

check('capped collection, view, validator, rename', () => {
  d.createCollection('ring', { capped: true, size: 4096, max: 3 });
  for (let i = 0; i < 5; i++) d.ring.insertOne({ _id: i });
  equal(d.ring.find().toArray().map((x) => x._id), [2, 3, 4]);
  truth(d.ring.isCapped());
  d.createView('paid', 'orders', [{ $match: { state: 'paid' } }, { $project: { total: 1 } }]);
  equal(d.paid.countDocuments({ total: { $lt: 9 } }), 3);
  d.createCollection('strict', { validator: { n: { $gt: 0 } } });
  d.strict.insertOne({ n: 1 });
  code(() => d.strict.insertOne({ n: 0 }), 121, 'DocumentValidationFailure');
  d.strict.renameCollection('stricter');
  equal(d.stricter.countDocuments({}), 1);
  code(() => d.stricter.renameCollection('orders'), 48, 'NamespaceExists');
});

check('types survive', () => {
  const doc = { _id: 1, l: NumberLong('9007199254740993'), dec: NumberDecimal('1.10'), d: ISODate('2024-02-29T12:00:00.123Z'), b: BinData(4, 'AAAAAAAAAAAAAAAAAAAAAA=='),
    r: /a.b/i, n: null, o: ObjectId('0123456789abcdef01234567'), t: Timestamp({ t: 5, i: 6 }), min: MinKey(), max: MaxKey(), nest: { a: [1, [2, { b: 3.5 }]] } };
  d.types.insertOne(doc);
  equal(d.types.findOne(), doc);
  equal(d.types.countDocuments({ dec: NumberDecimal('1.1'), l: { $type: 'long' }, n: { $type: 10 } }), 1);
});

check('a cursor over many batches', () => {
  equal(d.orders.find().batchSize(7).sort({ _id: 1 }).toArray().length, 1000);
  equal(d.orders.aggregate([{ $match: {} }], { cursor: { batchSize: 10 } }).toArray().length, 1000);
});

check('session: causally consistent reads of own writes', () => {
  const s = d.getMongo().startSession({ causalConsistency: true });
  const c = s.getDatabase('e2e_mongosh').getCollection('session');
  c.insertOne({ _id: 1 });
  equal(c.findOne(), { _id: 1 });
  s.endSession();
});

check('administration: serverStatus, hostInfo, getLog, currentOp, getCmdLineOpts, top', () => {
  const s = d.serverStatus();
  truth(s.ok === 1 && s.uptime >= 0 && s.connections.current > 0 && s.opcounters.insert > 0 && s.pid > 0 && s.mem.resident > 0, 'serverStatus');
  truth(d.hostInfo().system.numCores > 0, 'hostInfo');
  truth(d.adminCommand({ getLog: 'global' }).log.length > 0, 'getLog');
  truth(Array.isArray(d.currentOp().inprog), 'currentOp');
  truth(d.adminCommand({ getCmdLineOpts: 1 }).parsed, 'getCmdLineOpts');
  truth(d.adminCommand({ connectionStatus: 1 }).authInfo, 'connectionStatus');
  truth(d.adminCommand({ listCommands: 1 }).commands.find, 'listCommands');
  equal(d.adminCommand({ getParameter: 1, enableTestCommands: 1 }).ok, 1);
  truth(d.adminCommand({ top: 1 }).totals, 'top');
});

check('profiling', () => {
  d.setProfilingLevel(2);
  d.orders.findOne({ _id: 77 });
  const p = d.system.profile.findOne({ op: { $in: ['query', 'command'] }, ns: 'e2e_mongosh.orders' });
  d.setProfilingLevel(0);
  truth(p && p.command.find === 'orders' && p.millis >= 0, EJSON.stringify(p));
});

check('what is not known is refused', () => {
  code(() => d.runCommand({ noSuchCommand: 1 }), 59, 'CommandNotFound');
  code(() => d.runCommand({ find: 'orders', nosuch: 1 }), 40415, 'unknown field');
  code(() => d.orders.find({ a: { $nosuch: 1 } }).toArray(), 2, 'BadValue');
  code(() => d.orders.aggregate([{ $nosuch: {} }]).toArray(), 40324, 'stage');
  code(() => d.orders.aggregate([{ $project: { a: { $nosuch: 1 } } }]).toArray(), 31325, 'expression');
  code(() => d.orders.updateOne({}, { $nosuch: { a: 1 } }), 9, 'FailedToParse');
  code(() => d.runCommand({ insert: 'a$b\u0000', documents: [{}] }), 73, 'InvalidNamespace');
});

check('getReplicationInfo', () => {
  const r = d.getReplicationInfo();
  truth(!r.errmsg && r.logSizeMB > 0 && r.usedMB >= 0 && r.timeDiff >= 0 && r.tFirst && r.tLast, EJSON.stringify(r));
});

check('the oplog holds the session', () => {
  const log = db.getSiblingDB('local').getCollection('oplog.rs');
  const e = log.find({ ns: 'e2e_mongosh.people', op: 'i', 'o._id': 1 }).sort({ $natural: -1 }).next();
  equal([e.v, e.o.name], [2, 'Ada']);
  truth(e.ts && e.ui && e.wall, EJSON.stringify(e));
  const u = log.find({ ns: 'e2e_mongosh.people', op: 'u', 'o2._id': 1 }).sort({ $natural: -1 }).next();
  equal([u.o.$v, u.o.diff.u.age, u.o.diff.i.city], [2, 37, 'London'], EJSON.stringify(u));
  truth(log.find({ op: 'c', ns: 'e2e_mongosh.$cmd' }).hasNext(), 'DDL entries');
});

if (face === 'replset') {
  check('rs.status()', () => {
    const s = rs.status();
    equal([s.set, s.myState, s.members.length, s.members[0].stateStr, s.members[0].health, s.ok], ['rs0', 1, 1, 'PRIMARY', 1, 1]);
    truth(s.optimes.lastCommittedOpTime.ts && s.members[0].optime.ts, 'optimes');
  });
  check('rs.conf()', () => {
    const c = rs.conf();
    equal([c._id, c.members.length, c.members[0]._id, c.members[0].votes, c.members[0].priority], ['rs0', 1, 0, 1, 1]);
    truth(c.version >= 1 && c.settings.replicaSetId, EJSON.stringify(c));
  });
  check('rs.hello()', () => {
    const h = rs.hello();
    truth(h.setName === 'rs0' && h.primary === h.me && h.hosts[0] === h.me && h.electionId && h.lastWrite.opTime.ts, EJSON.stringify(h));
  });
  check('rs.printReplicationInfo(), rs.printSecondaryReplicationInfo()', () => {
    rs.printReplicationInfo();
    rs.printSecondaryReplicationInfo();
  });
  check('operationTime and $clusterTime', () => {
    const r = d.runCommand({ ping: 1 });
    truth(r.operationTime && r.$clusterTime.clusterTime, EJSON.stringify(r));
  });
  check('write concerns', () => {
    d.wc.insertOne({ a: 1 }, { writeConcern: { w: 'majority', j: true, wtimeout: 5000 } });
    code(() => d.wc.insertOne({ a: 1 }, { writeConcern: { w: 'nosuch' } }), 79, 'UnknownReplWriteConcern');
    code(() => d.wc.insertOne({ a: 1 }, { writeConcern: { w: 2, wtimeout: 100 } }), 100, 'UnsatisfiableWriteConcern');
  });
} else {
  check('a standalone says so', () => {
    truth(!d.hello().setName, 'setName');
    code(() => d.adminCommand({ replSetGetStatus: 1 }), 76, 'NoReplicationEnabled');
    code(() => d.wc.insertOne({ a: 1 }, { writeConcern: { w: 2 } }), 2, 'BadValue');
  });
}

// Users and roles are kept and shown; nothing is enforced yet.
const u = db.getSiblingDB('e2e_users');
u.dropAllUsers();
u.dropAllRoles();

check('createUser, getUser, getUsers', () => {
  equal(u.createUser({ user: 'ada', pwd: 'secret', roles: ['readWrite', { role: 'clusterMonitor', db: 'admin' }], customData: { team: 1 } }).ok, 1);
  code(() => u.createUser({ user: 'ada', pwd: 'x', roles: [] }), 51003, 'the name is taken');
  code(() => u.createUser({ user: 'bob', pwd: 'x', roles: ['nosuch'] }), 31, 'RoleNotFound');
  const user = u.getUser('ada');
  equal([user._id, user.user, user.db, user.customData, user.mechanisms], ['e2e_users.ada', 'ada', 'e2e_users', { team: 1 }, ['SCRAM-SHA-1', 'SCRAM-SHA-256']]);
  equal(u.getUsers().users.map((x) => x.user), ['ada']);
  equal(u.getUsers({ filter: { mechanisms: 'SCRAM-SHA-256' } }).users.length, 1);
  truth(u.getUser('ada', { showPrivileges: true }).inheritedPrivileges.length > 3, 'inheritedPrivileges');
  truth(u.getUser('ada', { showCredentials: true }).credentials['SCRAM-SHA-256'].storedKey, 'credentials');
  equal(u.getUser('nobody'), null);
});

check('updateUser, changeUserPassword, grantRolesToUser, revokeRolesFromUser', () => {
  const before = u.getUser('ada', { showCredentials: true }).credentials;
  u.changeUserPassword('ada', 'other');
  const after = u.getUser('ada', { showCredentials: true }).credentials;
  truth(before['SCRAM-SHA-1'].storedKey !== after['SCRAM-SHA-1'].storedKey, 'the credentials are the old ones');
  u.updateUser('ada', { customData: { team: 2 }, roles: ['read'] });
  u.grantRolesToUser('ada', [{ role: 'dbAdmin', db: 'e2e_users' }]);
  u.revokeRolesFromUser('ada', ['read']);
  equal([u.getUser('ada').customData, u.getUser('ada').roles], [{ team: 2 }, [{ role: 'dbAdmin', db: 'e2e_users' }]]);
  code(() => u.updateUser('nobody', { customData: {} }), 11, 'UserNotFound');
});

check('createRole, getRole, getRoles, grants, dropRole', () => {
  u.createRole({ role: 'reader', privileges: [{ resource: { db: 'e2e_users', collection: 'c' }, actions: ['find'] }], roles: ['read'] });
  u.createRole({ role: 'writer', privileges: [], roles: ['reader'] });
  code(() => u.grantRolesToRole('reader', ['writer']), 49, 'a cycle');
  u.grantPrivilegesToRole('writer', [{ resource: { db: 'e2e_users', collection: 'c' }, actions: ['insert', 'update'] }]);
  u.revokePrivilegesFromRole('writer', [{ resource: { db: 'e2e_users', collection: 'c' }, actions: ['update'] }]);
  equal(u.getRole('writer', { showPrivileges: true }).privileges, [{ resource: { db: 'e2e_users', collection: 'c' }, actions: ['insert'] }]);
  equal(u.getRole('writer').inheritedRoles, [{ role: 'reader', db: 'e2e_users' }, { role: 'read', db: 'e2e_users' }]);
  const all = u.getRoles({ showPrivileges: 1, showBuiltinRoles: 1 }).roles;
  truth(all.length >= 8 && all.every((r) => Array.isArray(r.privileges)), EJSON.stringify(all.map((r) => r.role)));
  equal(u.getRoles().roles.map((r) => r.role), ['reader', 'writer']);
  u.updateRole('writer', { roles: [] });
  u.grantRolesToUser('ada', ['writer', 'reader']);
  u.dropRole('reader');
  equal(u.getUser('ada').roles.map((r) => r.role), ['dbAdmin', 'writer']);
  code(() => u.dropRole('reader'), 31, 'RoleNotFound');
});

check('dropUser, dropAllUsers, dropAllRoles', () => {
  equal(u.dropUser('ada').ok, 1);
  code(() => u.dropUser('ada'), 11, 'UserNotFound');
  u.createUser({ user: 'bob', pwd: 'x', roles: [] });
  equal(u.dropAllUsers().n, 1);
  equal(u.dropAllRoles().n, 1);
});

check('the startup warning of an open server', () => {
  const log = db.adminCommand({ getLog: 'startupWarnings' }).log;
  truth(log.some((l) => /Access control is not enabled/.test(JSON.parse(l).msg)), log.join());
});

check('setFeatureCompatibilityVersion', () => {
  equal(db.adminCommand({ setFeatureCompatibilityVersion: '8.0', confirm: true }).ok, 1);
  code(() => db.adminCommand({ setFeatureCompatibilityVersion: '8.0' }), 7369100, 'not confirmed');
  equal(db.adminCommand({ getParameter: 1, featureCompatibilityVersion: 1 }).featureCompatibilityVersion.version, '8.0');
});

check('drop, dropDatabase', () => {
  truth(d.few.drop());
  equal(d.dropDatabase().ok, 1);
  equal(d.getCollectionNames(), []);
});

print('done');
