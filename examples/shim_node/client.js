// Calls the orders service ten times through the outbound listener of this machine's shim: node client.js PORT [TIER]
//
// The shim's port is the address, and the service's name is the authority: that is all the mesh asks of a client.
'use strict';

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [port, tier] = process.argv.slice(2);
const definition = loader.loadSync(path.join(__dirname, '..', 'orders.proto'), { keepCase: true });
const { Orders } = grpc.loadPackageDefinition(definition).orders.v1;
const client = new Orders(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), { 'grpc.default_authority': 'orders' });

const get = (id) =>
  new Promise((resolve, reject) => {
    const metadata = new grpc.Metadata();
    if (tier) metadata.set('tier', tier);
    const deadline = Date.now() + 10000;
    client.Get({ order_id: id }, metadata, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });

async function main() {
  const seen = {};
  for (let id = 0; id < 10; id++) {
    const answer = await get(String(id));
    seen[answer.served_by] = (seen[answer.served_by] || 0) + 1;
  }
  console.log(JSON.stringify(seen));
  client.close();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
