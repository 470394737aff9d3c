// grpc-js with its own xDS client, as a process: calls what a line of standard input names.
//
// Started by tests/e2e with GRPC_XDS_BOOTSTRAP_CONFIG set. A line is `TARGET COUNT`; the answer is one JSON object
// {"answers": {NAME: calls}, "errors": {"CODE: details": calls}}, as of grpcio_client.py. One client per target.
'use strict';

const readline = require('node:readline');
const grpc = require('@grpc/grpc-js');
require('@grpc/grpc-js-xds').register();

const METHOD = '/test.Echo/Say';
const DEADLINE_MS = 2000;
const asIs = (bytes) => bytes;
const clients = new Map();

function call(client) {
  return new Promise((resolve) => {
    const options = { deadline: Date.now() + DEADLINE_MS };
    client.makeUnaryRequest(METHOD, asIs, asIs, Buffer.alloc(0), new grpc.Metadata(), options, (error, answer) =>
      resolve(error ? ['errors', `${grpc.status[error.code]}: ${error.details}`] : ['answers', answer.toString()]),
    );
  });
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [target, count] = line.split(' ');
    if (!clients.has(target)) {
      clients.set(target, new grpc.Client(target, grpc.credentials.createInsecure()));
    }
    const counts = { answers: {}, errors: {} };
    for (let i = 0; i < Number(count); i++) {
      const [kind, word] = await call(clients.get(target));
      counts[kind][word] = (counts[kind][word] || 0) + 1;
    }
    console.log(JSON.stringify(counts));
  }
  process.exit(0);
}

main();
