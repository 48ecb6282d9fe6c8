// A TLS handshake for each request, at a constant rate: nothing is kept between iterations.
//   k6 run -e URL=https://secure.localhost:8443/ -e INSECURE=true -e RATE=200 loadtest/k6/tls_handshake.js
import { check } from 'k6';
import { constant, get, options as all } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
export const options = { ...all({ scenarios: { handshakes: constant() } }), noConnectionReuse: true };

export default () => {
  const { tls_version: version, timings } = get();
  check(version, { 'TLS 1.2 or 1.3': () => version === 'tls1.2' || version === 'tls1.3' });
  check(timings, { 'a handshake took place': () => timings.tls_handshaking > 0 });
};
