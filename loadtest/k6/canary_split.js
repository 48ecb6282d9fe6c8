// Whether a canary gets its share of the requests.
//
// CANARY     a regular expression that the bodies of the canary match, and no others
// WEIGHT     its share, in percent                                20
// TOLERANCE  by how much the share may be off, in percent         5
//   k6 run -e CANARY='canary-' -e WEIGHT=20 -e RATE=200 loadtest/k6/canary_split.js
import { Rate } from 'k6/metrics';
import { constant, get, options as all } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
const canary = new Rate('canary');
const pattern = new RegExp(__ENV.CANARY || 'canary');
const [weight, tolerance] = [Number(__ENV.WEIGHT || 20), Number(__ENV.TOLERANCE || 5)];
export const options = all({
  scenarios: { split: constant() },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    canary: [`rate>=${(weight - tolerance) / 100}`, `rate<=${(weight + tolerance) / 100}`],
  },
});
export default () => canary.add(pattern.test(get().body));
