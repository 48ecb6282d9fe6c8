// Unary gRPC calls at a constant rate: the standard health check of the server behind URL.
//   k6 run -e URL=https://grpc.example.com:8443 -e INSECURE=true -e RATE=200 loadtest/k6/grpc.js
import { check } from 'k6';
import grpc from 'k6/net/grpc';
import { constant, notDropped, options as all, url } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
const client = new grpc.Client();
client.load(['lib'], 'health.proto');
export const options = all({
  scenarios: { calls: constant() },
  thresholds: {
    checks: ['rate==1'],
    grpc_req_duration: [`p(99)<${__ENV.P99 || 250}`],
    dropped_iterations: [notDropped],
  },
});

let isConnected = false;

export default () => {
  if (!isConnected) {
    const [, scheme, address] = /^(\w+):\/\/([^/]+)/.exec(url);
    client.connect(address, { plaintext: scheme === 'http' });
    isConnected = true;
  }
  const answer = client.invoke('grpc.health.v1.Health/Check', { service: '' });
  check(answer, {
    'status is OK': ({ status }) => status === grpc.StatusOK,
    'the server serves': ({ message }) => message.status === 'SERVING',
  });
};
