// Whether the gateway answers at all: one client, as quick as it can.
//   k6 run -e URL=http://web.localhost:8080/ loadtest/k6/smoke.js
import { duration, get, options as all } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
export const options = all({ scenarios: { smoke: { executor: 'constant-vus', vus: 1, duration } } });
export default () => get();
