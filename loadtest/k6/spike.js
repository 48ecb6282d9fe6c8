// Quiet, then ten times as much at once, then quiet again: nothing fails, before, in or after the spike.
//   k6 run -e URL=http://web.localhost:8080/ -e RATE=100 -e DURATION=1m loadtest/k6/spike.js
import { get, options as all, rate, share, vus } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
export const options = all({
  scenarios: {
    spike: {
      executor: 'ramping-arrival-rate',
      startRate: rate,
      timeUnit: '1s',
      preAllocatedVUs: vus,
      maxVUs: vus,
      stages: [
        { target: rate, duration: share(0.3) },
        { target: rate * 10, duration: share(0.02) },
        { target: rate * 10, duration: share(0.28) },
        { target: rate, duration: share(0.02) },
        { target: rate, duration: share(0.38) },
      ],
    },
  },
});
export default () => get();
