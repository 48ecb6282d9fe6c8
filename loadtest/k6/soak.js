// A moderate rate for hours, with pauses in which kept connections grow old. Watch memory and descriptors beside it.
//   k6 run -e URL=http://web.localhost:8080/ -e RATE=50 -e DURATION=4h loadtest/k6/soak.js
import exec from 'k6/execution';
import { sleep } from 'k6';
import { constant, get, options as all, rate } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
export const options = all({ scenarios: { soak: constant() } });

export default () => {
  get();
  // One client in a hundred is silent for so long that whoever closes idle connections first is found.
  if (exec.scenario.iterationInTest % 100 === 99) sleep(Math.min(2, 100 / rate));
};
