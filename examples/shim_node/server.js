// The orders service in Node.js, with @grpc/grpc-js and no mesh library: node server.js PORT NAME VERSION
'use strict';

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [port, name, version] = process.argv.slice(2);
const definition = loader.loadSync(path.join(__dirname, '..', 'orders.proto'), { keepCase: true });
const { Orders } = grpc.loadPackageDefinition(definition).orders.v1;

const order = (id) => ({ order_id: id, served_by: name, version });
const server = new grpc.Server();
server.addService(Orders.service, {
  Get: (call, done) => done(null, order(call.request.order_id)),
  Watch: (call) => {
    for (const step of ['placed', 'packed', 'sent']) call.write(order(`${call.request.order_id}/${step}`));
    call.end();
  },
  Upload: (call, done) => {
    let orders = 0;
    call.on('data', () => (orders += 1));
    call.on('end', () => done(null, { orders }));
  },
  Chat: (call) => {
    call.on('data', (request) => call.write(order(request.order_id)));
    call.on('end', () => call.end());
  },
});
server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log(`${name} listens on ${port}`);
});
