'use strict';
// What the Node suites share: checks in order, one line each, and "done" at the end.
const assert = require('node:assert/strict');

let failed = 0;

/** check runs one named check and reports it. */
async function check(what, f) {
  try {
    await f();
    console.log('ok - ' + what);
  } catch (e) {
    failed++;
    console.log('not ok - ' + what + ' ## ' + String(e.stack || e).split('\n').slice(0, 14).join(' ').replace(/\s+/g, ' '));
  }
}

/** run calls main with the URI of the command line and leaves with a code that tells how it went. */
function run(main) {
  main(process.argv[2])
    .then(() => { console.log('done'); process.exit(failed ? 1 : 0); })
    .catch((e) => { console.log('not ok - the suite itself ## ' + e); process.exit(1); });
}

/** rejectsWith expects a server error of that code. */
async function rejectsWith(promise, code) {
  await assert.rejects(promise, (e) => { assert.equal(e.code, code, e.message); return true; });
}

module.exports = { assert, check, run, rejectsWith };
