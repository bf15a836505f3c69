// The checks for clients with the interface of browsers (WHATWG WebSockets): node's own, undici's, and
// Chromium, where this is the script of a page.
"use strict";

async function interop(WebSocket, base, id, { within, expect, mailbox }) {
  const results = [];

  function open(path) {
    const socket = new WebSocket(base + path, "interop");
    socket.binaryType = "arraybuffer";
    const { put, next } = mailbox();
    const state = { socket, next };
    socket.onmessage = (event) => put(event.data);
    state.closed = new Promise((done) => (socket.onclose = done));
    state.opened = within("the opening", new Promise((done, fail) => {
      socket.onopen = done;
      socket.onerror = () => fail(new Error("the client reports an error"));
    }));
    return state;
  }

  async function ready(path) {
    const client = open(path);
    await client.opened;
    expect(await client.next(), "welcome");
    expect(client.socket.protocol, "interop");
    return client;
  }

  async function check(name, action) {
    try {
      results.push([name, "yes", (await action()) || ""]);
    } catch (error) {
      results.push([name, "no", String((error && error.message) || error)]);
    }
  }

  await check("text", async () => {
    const client = await ready("/?id=" + id + ".text");
    client.socket.send("grüße 🦀");
    expect(await client.next(), "grüße 🦀");
    client.socket.close();
  });
  await check("binary", async () => {
    const client = await ready("/?id=" + id + ".binary");
    const bytes = Uint8Array.from({ length: 256 }, (_, at) => at);
    client.socket.send(bytes);
    expect(String(new Uint8Array(await client.next())), String(bytes));
    client.socket.close();
  });
  await check("large", async () => {
    const client = await ready("/?id=" + id + ".large");
    const bytes = new Uint8Array(1 << 20).map((_, at) => (at * 7 + (at >> 8) * 13) & 255);
    client.socket.send(bytes);
    const back = new Uint8Array(await client.next());
    expect(back.length, bytes.length);
    expect(back.every((byte, at) => byte === bytes[at]), true);
    client.socket.close();
  });
  await check("compression", async () => {
    const client = await ready("/?id=" + id + ".compression");
    const text = "a".repeat(200_000);
    client.socket.send(text);
    expect((await client.next()) === text, true);
    client.socket.send("/info");
    const info = JSON.parse(await client.next());
    expect(info.deflate, true);
    expect(info.sent < 20_000, true);
    client.socket.close();
    return info.received < 20_000 ? "" : "does not compress what it sends";
  });
  await check("pong", async () => {
    const client = await ready("/?id=" + id + ".pong");
    client.socket.send("/ping are you there?");
    expect(await client.next(), "pong are you there?");
    client.socket.close();
  });
  await check("close", async () => {
    const client = await ready("/?id=" + id + ".close");
    client.socket.close(4002, "bye");
    const end = await within("the close", client.closed);
    expect(end.code + " " + end.reason + " " + end.wasClean, "4002 bye true");
  });
  await check("closed", async () => {
    const client = await ready("/?id=" + id + ".closed");
    client.socket.send("/close 4001 enough");
    const end = await within("the close", client.closed);
    expect(end.code + " " + end.reason + " " + end.wasClean, "4001 enough true");
  });
  await check("refusal", async () => {
    const client = open("/refused?id=" + id + ".refusal");
    await client.opened.then(() => { throw new Error("it opened"); }, () => {});
    const end = await within("the close", client.closed);
    expect(end.code, 1006);
    return "its API does not report the status";
  });
  return results;
}

if (typeof module !== "undefined") {
  module.exports = interop;
}
