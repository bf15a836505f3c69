// The client `ws` of npm.
"use strict";
const fs = require("node:fs");
const WebSocket = require("ws");
const { within, expect, mailbox } = require("./common.js");

const [base, authority, id] = process.argv.slice(2);

function open(path) {
  const socket = new WebSocket(base + path, "interop", { ca: fs.readFileSync(authority) });
  const { put, next } = mailbox();
  socket.on("message", (data, binary) => put(binary ? data : data.toString()));
  const closed = new Promise((done) => socket.on("close", (code, reason) => done(`${code} ${reason}`)));
  const opened = new Promise((done, fail) => {
    socket.on("open", done);
    socket.on("error", fail);
  });
  return { socket, next, closed, opened: within("the opening", opened) };
}

async function ready(path) {
  const client = open(path);
  await client.opened;
  expect(await client.next(), "welcome");
  return client;
}

async function check(name, action) {
  try {
    console.log([name, "yes", (await action()) || ""].join("\t"));
  } catch (error) {
    console.log([name, "no", error.message].join("\t"));
  }
}

(async () => {
  await check("text", async () => {
    const { socket, next } = await ready(`/?id=${id}.text`);
    socket.send("grüße 🦀");
    expect(await next(), "grüße 🦀");
    socket.close();
  });
  await check("binary", async () => {
    const { socket, next } = await ready(`/?id=${id}.binary`);
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
    socket.send(bytes);
    expect((await next()).equals(bytes), true);
    socket.close();
  });
  await check("large", async () => {
    const { socket, next } = await ready(`/?id=${id}.large`);
    const bytes = Buffer.alloc(1 << 20).map((_, at) => (at * 7 + (at >> 8) * 13) & 255);
    socket.send(bytes);
    expect((await next()).equals(bytes), true);
    socket.close();
  });
  await check("fragments", async () => {
    const { socket, next } = await ready(`/fragments?id=${id}.fragments`);
    socket.send("ab", { fin: false, compress: false });
    socket.send("cd", { fin: false, compress: false });
    socket.send("ef", { fin: true, compress: false });
    expect(await next(), "3 pieces, 6 bytes");
    socket.close();
  });
  await check("compression", async () => {
    const { socket, next } = await ready(`/?id=${id}.compression`);
    const text = "a".repeat(200_000);
    socket.send(text);
    expect((await next()) === text, true);
    socket.send("/info");
    const info = JSON.parse(await next());
    expect(info.deflate && info.sent < 20_000 && info.received < 20_000, true);
    socket.close();
  });
  await check("ping", async () => {
    const { socket } = await ready(`/?id=${id}.ping`);
    const pong = new Promise((done) => socket.on("pong", (data) => done(data.toString())));
    socket.ping("hello?");
    expect(await within("the pong", pong), "hello?");
    socket.close();
  });
  await check("pong", async () => {
    const { socket, next } = await ready(`/?id=${id}.pong`);
    socket.send("/ping are you there?");
    expect(await next(), "pong are you there?");
    socket.close();
  });
  await check("close", async () => {
    const { socket, closed } = await ready(`/?id=${id}.close`);
    socket.close(4002, "bye");
    expect(await within("the close", closed), "4002 bye");
  });
  await check("closed", async () => {
    const { socket, closed } = await ready(`/?id=${id}.closed`);
    socket.send("/close 4001 enough");
    expect(await within("the close", closed), "4001 enough");
  });
  await check("refusal", async () => {
    const { socket, opened } = open(`/refused?id=${id}.refusal`);
    const refused = new Promise((done) => {
      socket.on("unexpected-response", (_, response) => done(response.statusCode));
    });
    opened.catch(() => {});
    expect(await within("the refusal", refused), 403);
    socket.terminate();
  });
  process.exit(0);
})();
