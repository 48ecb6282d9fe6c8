// A constant rate while the configuration changes: no answer may fail, and each must be the old or the new one.
//
// API       the Kubernetes API, such as `kubectl proxy` offers it: the script then edits INGRESS of NAMESPACE ten times
//           a second. Without it, edit files meanwhile.
// EXPECT    a regular expression that every body has to match
//   k6 run -e API=http://127.0.0.1:8001 -e NAMESPACE=default -e INGRESS=web loadtest/k6/config_churn.js
import { check } from 'k6';
import http from 'k6/http';
import { constant, duration, get, options as all } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
const expected = new RegExp(__ENV.EXPECT || '');
const asking = { ...constant(), exec: 'traffic' };
const editor = { executor: 'constant-arrival-rate', rate: 10, timeUnit: '1s', duration, preAllocatedVUs: 2, exec: 'edit' };
export const options = all({ scenarios: __ENV.API ? { asking, editor } : { asking } });

export function traffic() {
  check(get(), { 'the old or the new answer': ({ body }) => expected.test(body) });
}

export function edit() {
  const object = `${__ENV.API}/apis/networking.k8s.io/v1/namespaces/${__ENV.NAMESPACE}/ingresses/${__ENV.INGRESS}`;
  const seconds = 30 + Math.floor(Math.random() * 30);
  const annotations = { 'nginx.ingress.kubernetes.io/proxy-read-timeout': `${seconds}` };
  const headers = { 'Content-Type': 'application/merge-patch+json' };
  const answer = http.patch(object, JSON.stringify({ metadata: { annotations } }), { headers });
  check(answer, { 'the edit is accepted': ({ status }) => status === 200 });
}
