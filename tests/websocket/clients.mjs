// A client of WebSocket in Node.js and Bun, for the script `clients`.
//
//     node clients.mjs ws | built-in  echo | closes | restart  URL
//
// `ws` is that of npm, `built-in` the one that the program brings.

import { createRequire } from "node:module";
import { strict as assert } from "node:assert";
import { randomBytes } from "node:crypto";
import process from "node:process";

const [which, task, url] = process.argv.slice(2);
const isPackage = which === "ws";
const WebSocket = isPackage
  ? createRequire(`${process.cwd()}/`)("ws")
  : globalThis.WebSocket;
const SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20, 16 << 20];

// Events of a connection, in their order.
class Client {
  constructor(options) {
    this.socket = isPackage
      ? new WebSocket(url, { maxPayload: 32 << 20, perMessageDeflate: false, ...options })
      : new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.events = [];
    this.waiting = [];
    for (const name of ["open", "message", "close"])
      this.socket.addEventListener(name, (event) => this.got(name, event));
    // That of Node.js 20 says nothing else of a connection that it cannot open.
    this.socket.addEventListener("error", () => this.got("error", {}));
  }

  got(name, event) {
    const value = { open: null, message: event.data, close: event, error: event }[name];
    this.events.push([name, value]);
    this.waiting.shift()?.();
  }

  async next(name) {
    if (this.events.length === 0)
      await new Promise((resolve) => this.waiting.push(resolve));
    const [found, value] = this.events.shift();
    assert.equal(found, name, `${value?.code} ${value?.reason}`);
    return value;
  }

  async echoes(message) {
    this.socket.send(message);
    this.same(await this.next("message"), message);
  }

  same(received, sent) {
    if (typeof sent === "string") return assert.ok(received === sent, `${sent.length}`);
    assert.ok(Buffer.from(received).equals(sent), `${sent.length} bytes`);
  }
}

async function open(options) {
  const client = new Client(options);
  await client.next("open");
  return client;
}

async function echo() {
  for (const perMessageDeflate of isPackage ? [false, true, { threshold: 0 }] : [false]) {
    const client = await open({ perMessageDeflate });
    // That of Node.js decompresses no more than 4 MiB.
    const isBounded = process.versions.undici && !isPackage && client.socket.extensions;
    const most = isBounded ? 4 << 20 : Infinity;
    for (const size of SIZES.filter((size) => size <= most)) {
      await client.echoes(randomBytes(size));
      await client.echoes("ä€😀x".repeat(size / 10));
    }
    // All on their way at once.
    const texts = Array.from({ length: 1000 }, (_, number) => `${number}`.repeat(number % 200));
    for (const text of texts) client.socket.send(text);
    for (const text of texts) client.same(await client.next("message"), text);
    if (isPackage) {
      const compress = perMessageDeflate !== false;
      for (const [piece, fin] of [["Hel", false], ["", false], ["lo ", false], ["€", true]])
        client.socket.send(piece, { fin, compress, binary: false });
      client.same(await client.next("message"), "Hello €");
    }
    if (client.socket.ping) {
      const pong = new Promise((resolve) => client.socket.once?.("pong", resolve));
      client.socket.ping("there?");
      if (client.socket.once) assert.equal(`${await pong}`, "there?");
    }
    console.log(`${which}: echo, compression ${client.socket.extensions || "off"}`);
    client.socket.close();
    await client.next("close");
  }
}

async function closes() {
  const codes = isPackage ? [1000, 1001, 1003, 1007, 1011, 1012, 1014] : [1000];
  for (const code of [...codes, 3000, 4999]) {
    const client = await open();
    client.socket.close(code, "why€");
    const closed = await client.next("close");
    assert.equal(closed.code, code);
    assert.equal(closed.wasClean, true);
  }
  const client = await open();
  client.socket.close();
  assert.equal((await client.next("close")).code, 1005);
  console.log(`${which}: closes`);
}

// Is told of a restart, and connects again until somebody listens.
async function restart() {
  let client = await open();
  await client.echoes("before");
  console.log("connected");
  assert.equal((await client.next("close")).code, 1012);
  for (;;) {
    client = new Client();
    try {
      await client.next("open");
      break;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  await client.echoes("after");
  client.socket.close(1000);
  assert.equal((await client.next("close")).code, 1000);
  console.log("connected again");
}

await { echo, closes, restart }[task]();
