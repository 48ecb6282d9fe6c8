// Whether a limit of requests a second holds: more than it are asked, and the rest is refused and not delayed.
//
// LIMIT     `limit-rps` of the Ingress                            10
// BURST     `limit-burst-multiplier` of it                        5
// REFUSED   the status of a refusal                               503
//   k6 run -e LIMIT=10 -e RATE=100 -e DURATION=10s loadtest/k6/ratelimit.js
import { check } from 'k6';
import http from 'k6/http';
import { Counter } from 'k6/metrics';
import { constant, duration, options as all, seconds, url } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
const limit = Number(__ENV.LIMIT || 10);
const refusal = Number(__ENV.REFUSED || 503);
// nginx's bucket: what the limit lets through in the time, what the burst holds, and the first one.
const most = Math.ceil(limit * (seconds(duration) + 1)) + limit * Number(__ENV.BURST || 5) + 1;
const accepted = new Counter('accepted');
const refused = new Counter('refused');
http.setResponseCallback(http.expectedStatuses(200, refusal));
export const options = all({
  scenarios: { flood: constant() },
  thresholds: {
    checks: ['rate==1'],
    accepted: [`count<=${most}`, `count>=${limit}`],
    refused: ['count>0'],
  },
});

export default () => {
  const { status } = http.get(url);
  check(status, { 'accepted or refused': () => status === 200 || status === refusal });
  (status === 200 ? accepted : refused).add(1);
};
