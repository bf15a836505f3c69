// ws on Node.js, with bufferutil. Echo and broadcast follow the examples of its README.
//
// `npm install` in this directory fetches the dependencies. The command line is that of the servers
// in Rust; see src/server.rs. With --deflate, Node.js compresses on its own threads.
'use strict';

const { createServer } = require('node:http');
const { parseArgs } = require('node:util');

function refuse(problem) {
  process.stderr.write(`${problem}\n`);
  process.exit(64);
}

function library() {
  try {
    return require('ws');
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND') throw error;
    return refuse('ws is not installed: npm install');
  }
}

function options() {
  const names = {
    listen: { type: 'string' },
    mode: { type: 'string', default: 'echo' },
    'read-buffer': { type: 'string' }, // ignored: Node.js has no such setting
    'max-message': { type: 'string', default: String(64 << 20) },
    deflate: { type: 'string' },
  };
  try {
    return parseArgs({ options: names }).values;
  } catch (error) {
    return refuse(error.message);
  }
}

const { WebSocket, WebSocketServer } = library();
const { listen, mode, deflate, 'max-message': maxMessage } = options();
const [, host, port] = /^(.+):(\d+)$/.exec(listen ?? '') ?? refuse('--listen ADDRESS is missing');
if (mode !== 'echo' && mode !== 'broadcast') refuse(`unknown mode ${mode}`);
if (mode === 'broadcast' && deflate) refuse('--mode broadcast does not go with --deflate');
const compression = {
  none: false,
  shared: { serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: 0 },
  dedicated: { threshold: 0 },
}[deflate ?? 'none'];
if (compression === undefined) refuse(`unknown compression ${deflate}`);

const http = createServer({ noDelay: true });
const server = new WebSocketServer({
  server: http,
  maxPayload: Number(maxMessage),
  perMessageDeflate: compression,
});
const broadcast = (data, binary) => {
  for (const client of server.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
  }
};
server.on('connection', (client) => {
  client.on('error', () => {}); // a failed client does not matter
  client.on(
    'message',
    mode === 'broadcast' ? broadcast : (data, binary) => client.send(data, { binary }),
  );
});
http.on('error', (error) => refuse(error.message));
http.listen({ host, port: Number(port), backlog: 4096 }, () => {
  console.log(`listening ${host}:${http.address().port}`);
});
