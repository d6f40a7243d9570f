"use strict";
// Asks Perfetto's own trace processor about a trace: node perfetto.js ENGINE TRACE SQL…
//
// ENGINE is a folder of Perfetto's user interface, which has the trace processor as WebAssembly and the script that a
// browser's worker runs it by. Messages to it and from it are protocol buffers (perfetto/trace_processor.proto). A row of
// an answer becomes a line, its cells apart by tabs.
const fs = require("fs"), path = require("path"), vm = require("vm");
const host = process;
const [engine, trace, ...queries] = host.argv.slice(2);

// --- protocol buffers, as far as these messages need them ------------------------------------------------------------

function varint(number) {
  const bytes = [];
  for (; number >= 128; number = Math.floor(number / 128)) bytes.push(number % 128 + 128);
  return [...bytes, number];
}
const numberField = (field, number) => Buffer.from([...varint(field * 8), ...varint(number)]);
const bytesField = (field, bytes) => Buffer.concat([Buffer.from([...varint(field * 8 + 2), ...varint(bytes.length)]), bytes]);

function readVarint(bytes, at) {
  let number = 0n, shift = 0n;
  for (; ; shift += 7n) {
    const byte = bytes[at++];
    number |= BigInt(byte & 127) << shift;
    if (byte < 128) return [number, at];
  }
}
function fields(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length;) {
    let key, value;
    [key, at] = readVarint(bytes, at);
    const kind = Number(key & 7n);
    if (kind === 0) {
      [value, at] = readVarint(bytes, at);
    } else {
      let length = 8n;
      if (kind === 2) [length, at] = readVarint(bytes, at);
      value = bytes.subarray(at, at += Number(length));
    }
    found.push([Number(key >> 3n), value]);
  }
  return found;
}
function packed(bytes) {
  const numbers = [];
  for (let at = 0, number; at < bytes.length;) {
    [number, at] = readVarint(bytes, at);
    numbers.push(BigInt.asIntN(64, number));
  }
  return numbers;
}
const all = (list, field) => list.filter(([other]) => other === field).map(([, value]) => value);

// --- the processor ---------------------------------------------------------------------------------------------------

// The script takes this for a browser's worker.
function start() {
  globalThis.self = globalThis;
  globalThis.WorkerGlobalScope = class {};
  globalThis.location = { href: "file:///" };
  globalThis.XMLHttpRequest = class {
    open(method, address) { this.name = path.basename(address); }
    send() { this.response = fs.readFileSync(path.join(engine, this.name)); }
  };
  delete globalThis.process;
  console.warn = console.log = () => {};
  vm.runInThisContext(fs.readFileSync(path.join(engine, "engine_bundle.js"), "utf8"));
  globalThis.process = host;
}

let answered = null, sequence = 0;
const port = {
  onmessage: null,
  postMessage: (bytes) => all(fields(Buffer.from(bytes)), 1).forEach((message) => answered(fields(message))),
};
// Sends a request (TraceProcessorRpc) and gives the answers, up to the one that is the last.
function ask(request, parts, isLast = () => true) {
  return new Promise((done) => {
    const answers = [];
    answered = (answer) => {
      answers.push(answer);
      if (isLast(answer)) done(answers);
    };
    const message = Buffer.concat([numberField(1, sequence++), numberField(2, request), ...parts]);
    port.onmessage({ data: new Uint8Array(bytesField(1, message)) });
  });
}
const APPEND = 1, FINALIZE = 2, QUERY = 3;

// TraceProcessorRpc.query_result: QueryResult with column names (1), an error (2), and batches of cells (3).
async function query(sql) {
  const results = (answer) => all(answer, 203).flatMap(fields);
  const isLast = (answer) => all(results(answer), 3).some((batch) => all(fields(batch), 6).some(Boolean));
  const failed = (answer) => all(results(answer), 2).length > 0;
  const args = bytesField(103, bytesField(1, Buffer.from(sql)));
  const result = (await ask(QUERY, [args], (answer) => failed(answer) || isLast(answer))).flatMap(results);
  for (const error of all(result, 2)) throw new Error(`${sql}: ${error}`);
  const columns = all(result, 1).length, cells = [];
  for (const batch of all(result, 3).map(fields)) {
    const numbers = all(batch, 2).flatMap(packed), texts = Buffer.concat(all(batch, 5)).toString().split("\0");
    const take = { 1: () => "", 2: () => numbers.shift(), 4: () => texts.shift() };
    for (const kind of all(batch, 1).flatMap(packed)) cells.push(String(take[kind]()));
  }
  const rows = [];
  while (cells.length) rows.push(cells.splice(0, columns).join("\t"));
  return rows;
}

async function main() {
  start();
  self.onmessage({ data: port });
  // The worker sets its buffers up in the order in which it was told: behind the load of the module.
  await new Promise((done) => setTimeout(done, 1000));
  const file = fs.readFileSync(trace), PIECE = 1 << 22;
  for (let at = 0; at < file.length; at += PIECE) {
    await ask(APPEND, [bytesField(101, file.subarray(at, at + PIECE))]);
  }
  await ask(FINALIZE, []);
  for (const sql of queries) for (const row of await query(sql)) host.stdout.write(row + "\n");
}
main().then(() => host.exit(0), (error) => {
  host.stderr.write(String(error?.message ?? error).slice(-1000) + "\n");
  host.exit(1);
});
