// Socket.IO, set up as its documentation describes: with bufferutil, with WebSocket as the only
// transport, and with its Redis adapter if --redis is given.
//
// `npm install` in this directory fetches the dependencies. The command line is that of the servers
// in Rust; see src/server.rs. Topics are rooms: the event `subscribe` joins one, `unsubscribe`
// leaves it, and `publish` sends the event `message` to the others in it.
'use strict';

const { createServer } = require('node:http');
const { parseArgs } = require('node:util');

function refuse(problem) {
  process.stderr.write(`${problem}\n`);
  process.exit(64);
}

function library(name) {
  try {
    return require(name);
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND') throw error;
    return refuse(`${name} is not installed: npm install`);
  }
}

function options() {
  const names = {
    listen: { type: 'string' },
    mode: { type: 'string', default: 'echo' },
    'max-message': { type: 'string', default: String(64 << 20) },
    redis: { type: 'string' },
  };
  try {
    return parseArgs({ options: names }).values;
  } catch (error) {
    return refuse(error.message);
  }
}

async function redisAdapter(url) {
  const { createClient } = library('redis');
  const { createAdapter } = library('@socket.io/redis-adapter');
  const pubClient = createClient({ url });
  const subClient = pubClient.duplicate();
  await Promise.all([pubClient.connect(), subClient.connect()]);
  return createAdapter(pubClient, subClient);
}

async function main() {
  const { Server } = library('socket.io');
  const { listen, mode, redis, 'max-message': maxMessage } = options();
  const [, host, port] = /^(.+):(\d+)$/.exec(listen ?? '') ?? refuse('--listen ADDRESS is missing');
  if (mode !== 'topics') refuse(`unknown mode ${mode}`);

  const http = createServer();
  const io = new Server(http, {
    transports: ['websocket'],
    maxHttpBufferSize: Number(maxMessage),
    ...(redis && { adapter: await redisAdapter(redis) }),
  });
  io.on('connection', (socket) => {
    socket.on('subscribe', (topic) => socket.join(topic));
    socket.on('unsubscribe', (topic) => socket.leave(topic));
    socket.on('publish', (topic, text) => socket.to(topic).emit('message', text));
  });
  http.on('error', (error) => refuse(error.message));
  http.listen({ host, port: Number(port), backlog: 4096 }, () => {
    console.log(`listening ${host}:${http.address().port}`);
  });
}

main().catch((error) => refuse(error.message));
