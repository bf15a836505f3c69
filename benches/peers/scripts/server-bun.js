// Bun.serve, which contains uWebSockets, following the documentation of its WebSocket server.
//
// `npm install` in this directory fetches Bun. The command line is that of the servers in Rust; see
// src/server.rs.
'use strict';

const { parseArgs } = require('node:util');

function refuse(problem) {
  process.stderr.write(`${problem}\n`);
  process.exit(64);
}

function options() {
  const names = {
    listen: { type: 'string' },
    mode: { type: 'string', default: 'echo' },
    tls: { type: 'string' },
    'read-buffer': { type: 'string' }, // ignored: Bun has no such setting
    'max-message': { type: 'string', default: String(64 << 20) },
    deflate: { type: 'string' },
  };
  try {
    // The second value of --tls is the only argument without a name.
    return parseArgs({ options: names, allowPositionals: true });
  } catch (error) {
    return refuse(error.message);
  }
}

const { values, positionals } = options();
const { listen, mode, tls, deflate, 'max-message': maxMessage } = values;
const [, hostname, port] = /^(.+):(\d+)$/.exec(listen ?? '') ?? refuse('--listen ADDRESS is missing');
if (positionals.length !== (tls ? 1 : 0)) refuse(`unknown arguments: ${positionals}`);
const perMessageDeflate = {
  none: false,
  shared: { compress: 'shared', decompress: 'shared' },
  dedicated: { compress: 'dedicated', decompress: 'dedicated' },
}[deflate ?? 'none'];
if (perMessageDeflate === undefined) refuse(`unknown compression ${deflate}`);
const compress = deflate !== undefined;

const EVERYBODY = 'everybody';
const handlers = {
  echo: {
    message: (client, message) => client.send(message, compress),
  },
  broadcast: {
    open: (client) => client.subscribe(EVERYBODY),
    message: (_, message) => server.publish(EVERYBODY, message, compress),
  },
  topics: {
    message: (client, message) => {
      if (message[0] === '+') client.subscribe(message.slice(1));
      else if (message[0] === '-') client.unsubscribe(message.slice(1));
      else server.publish(message.slice(0, message.indexOf(' ')), message, compress);
    },
  },
}[mode];
if (handlers === undefined) refuse(`unknown mode ${mode}`);

function serve() {
  try {
    return Bun.serve({
      hostname,
      port: Number(port),
      tls: tls && { cert: Bun.file(tls), key: Bun.file(positionals[0]) },
      fetch: (request, server) =>
        server.upgrade(request) ? undefined : new Response('not a WebSocket', { status: 400 }),
      websocket: {
        ...handlers,
        perMessageDeflate,
        maxPayloadLength: Number(maxMessage),
        backpressureLimit: 0, // no limit
        idleTimeout: 0,
        sendPings: false,
      },
    });
  } catch (error) {
    return refuse(error.message);
  }
}

const server = serve();
console.log(`listening ${server.hostname}:${server.port}`);
