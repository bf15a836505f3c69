// The clients of node with the interface of browsers: `builtin`, or `undici` from npm.
"use strict";
const common = require("./common.js");
const interop = require("./standard.js");

const [kind, base, , id] = process.argv.slice(2);
const client = kind === "undici" ? require("undici").WebSocket : globalThis.WebSocket;
interop(client, base, id, common).then((results) => {
  for (const result of results) {
    console.log(result.join("\t"));
  }
  process.exit(0);
});
