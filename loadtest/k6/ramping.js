// A rate that rises from a tenth to RATE and falls again, to see where latencies begin to rise.
//   k6 run -e URL=http://web.localhost:8080/ -e RATE=2000 -e DURATION=2m loadtest/k6/ramping.js
import { get, options as all, rate, share, vus } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
export const options = all({
  scenarios: {
    ramping: {
      executor: 'ramping-arrival-rate',
      startRate: Math.ceil(rate / 10),
      timeUnit: '1s',
      preAllocatedVUs: Math.min(vus, 20),
      maxVUs: vus,
      stages: [
        { target: rate, duration: share(0.5) },
        { target: rate, duration: share(0.3) },
        { target: Math.ceil(rate / 10), duration: share(0.2) },
      ],
    },
  },
});
export default () => get();
