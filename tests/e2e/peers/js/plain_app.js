// An application with @grpc/grpc-js and node:http and no mesh library, as a process that answers lines of JSON.
//
//   node plain_app.js serve NAME      prints {"grpc": PORT, "http": PORT}; each line asks what was executed so far:
//                                     {"executed": n, "doubled": [ids]}
//   node plain_app.js call PORT       PORT: the shim's outbound listener. Lines:
//     {"host": H, "count": n, "headers": {...}}        unary calls in turn   -> {"answers": {}, "errors": {}}
//     {"host": H, "get": PATH}                         HTTP/1.1              -> {"answers": {}, "errors": {}}
//     {"host": H, "begin": n}                          n callers without pause, until:
//     {"end": true}                                    -> {"answers": {}, "errors": {}, "calls": n}
'use strict';

const http = require('node:http');
const readline = require('node:readline');
const grpc = require('@grpc/grpc-js');

const asIs = (bytes) => bytes;
const METHODS = {
  Say: { path: '/test.Echo/Say', requestStream: false, responseStream: false },
  Count: { path: '/test.Echo/Count', requestStream: false, responseStream: true },
};
for (const method of Object.values(METHODS)) {
  Object.assign(method, {
    requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs,
  });
}
const STEPS = 20;

function serve(name) {
  const executed = new Map();
  const server = new grpc.Server();
  server.addService(METHODS, {
    Say(call, done) {
      const id = call.request.toString();
      if (id) executed.set(id, (executed.get(id) || 0) + 1);
      const delay = Number(call.metadata.get('delay-ms')[0] || 0);
      setTimeout(() => done(null, Buffer.from(name)), delay);
    },
    Count(call) {
      let step = 0;
      const timer = setInterval(() => {
        call.write(Buffer.from(name));
        if (++step === STEPS) {
          clearInterval(timer);
          call.end();
        }
      }, 50);
      call.on('cancelled', () => clearInterval(timer));
    },
  });
  const web = http.createServer((request, response) => response.end(`${name} ${request.httpVersion} ${request.url}`));
  server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    web.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ grpc: port, http: web.address().port })));
  });
  return () => {
    const doubled = [...executed].filter(([, times]) => times > 1).map(([id]) => id);
    return { executed: executed.size, doubled };
  };
}

function caller(port) {
  const clients = new Map();
  let running = null;
  let nextId = 1;

  function client(host) {
    if (!clients.has(host)) {
      const options = { 'grpc.default_authority': host };
      clients.set(host, new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), options));
    }
    return clients.get(host);
  }

  function unary(host, headers, id) {
    const metadata = new grpc.Metadata();
    for (const [key, value] of Object.entries(headers || {})) metadata.set(key, value);
    return new Promise((resolve) => {
      client(host).makeUnaryRequest(
        METHODS.Say.path, asIs, asIs, Buffer.from(id), metadata, { deadline: Date.now() + 20000 },
        (error, answer) =>
          resolve(error ? ['errors', `${grpc.status[error.code]}: ${error.details}`] : ['answers', answer.toString()]),
      );
    });
  }

  function stream(host) {
    return new Promise((resolve) => {
      let seen = 0;
      const call = client(host).makeServerStreamRequest(METHODS.Count.path, asIs, asIs, Buffer.alloc(0));
      call.on('data', () => (seen += 1));
      call.on('error', (error) => resolve(['errors', `stream: ${grpc.status[error.code]}: ${error.details}`]));
      call.on('end', () => resolve(seen === STEPS ? ['answers', 'stream'] : ['errors', `stream of ${seen}`]));
    });
  }

  function get(host, path) {
    return new Promise((resolve) => {
      const request = http.get({ host: '127.0.0.1', port, path, headers: { host } }, (response) => {
        let text = '';
        response.on('data', (part) => (text += part));
        response.on('end', () => resolve([response.statusCode === 200 ? 'answers' : 'errors', text]));
      });
      request.on('error', (error) => resolve(['errors', error.message]));
    });
  }

  function note(counts, [kind, word]) {
    counts[kind][word] = (counts[kind][word] || 0) + 1;
  }

  async function load(host, counts, turn) {
    while (running && !running.over) {
      note(counts, turn === 0 ? await stream(host) : await unary(host, { 'delay-ms': '5' }, `call-${nextId++}`));
    }
  }

  return async (asked) => {
    const counts = { answers: {}, errors: {} };
    if (asked.begin) {
      running = { over: false, counts };
      running.tasks = [...Array(asked.begin).keys()].map((turn) => load(asked.host, counts, turn));
      return { begun: true };
    }
    if (asked.end) {
      running.over = true;
      await Promise.all(running.tasks);
      return { ...running.counts, calls: nextId - 1 };
    }
    if (asked.get) {
      note(counts, await get(asked.host, asked.get));
    } else {
      for (let i = 0; i < asked.count; i++) note(counts, await unary(asked.host, asked.headers, ''));
    }
    return counts;
  };
}

async function main() {
  const [mode, word] = process.argv.slice(2);
  const answer = mode === 'serve' ? serve(word) : caller(word);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(JSON.parse(line))));
  }
  process.exit(0);
}

main();
