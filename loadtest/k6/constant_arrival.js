// A constant rate of requests, whether answers come in time or not: the latencies of it may be quoted.
//   k6 run -e URL=http://web.localhost:8080/ -e RATE=500 -e DURATION=1m loadtest/k6/constant_arrival.js
import { constant, get, options as all } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
export const options = all({ scenarios: { constant: constant() } });
export default () => get();
