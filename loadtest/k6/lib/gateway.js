// What all scripts share: where the gateway is, what is asked for, and how the outcome is written.
//
// URL       what is asked for; its host is also what TLS asks for    http://web.localhost:8080/
// ADDRESS   where that host is                                       127.0.0.1
// RATE      requests a second                                        100
// DURATION  of the whole script                                      30s
// P99       milliseconds that 99 of 100 answers may take             250
// DROPPED   questions that may be left out for want of connections   0
// VUS       connections at most                                      200
// INSECURE  true: any certificate is good
// SUMMARY   a file for the outcome as JSON
import { check } from 'k6';
import http from 'k6/http';

export const url = __ENV.URL || 'http://web.localhost:8080/';
export const rate = Number(__ENV.RATE || 100);
export const duration = __ENV.DURATION || '30s';
export const vus = Number(__ENV.VUS || 200);

/** The threshold of `dropped_iterations`. */
export const notDropped = `count<=${__ENV.DROPPED || 0}`;

const units = { ms: 0.001, s: 1, m: 60, h: 3600 };

/** Seconds of a duration such as 1m30s. */
export function seconds(text) {
  return [...text.matchAll(/([0-9.]+)(ms|s|m|h)/g)].reduce((sum, [, n, unit]) => sum + n * units[unit], 0);
}

/** A share of the whole duration. */
export const share = (of) => `${Math.max(1, Math.round(seconds(duration) * of * 1000))}ms`;

/** The options of a script: nothing fails, and answers are quick enough, unless `thresholds` says otherwise. */
export function options({ scenarios, thresholds }) {
  const [, host] = /^\w+:\/\/([^:/]+)/.exec(url);
  return {
    scenarios,
    hosts: { [host]: __ENV.ADDRESS || '127.0.0.1' },
    insecureSkipTLSVerify: __ENV.INSECURE === 'true',
    summaryTrendStats: ['min', 'med', 'p(90)', 'p(99)', 'p(99.9)', 'max'],
    thresholds: thresholds || {
      http_req_failed: ['rate==0'],
      http_req_duration: [`p(99)<${__ENV.P99 || 250}`],
      dropped_iterations: [notDropped],
      checks: ['rate==1'],
    },
  };
}

/** An open model at one rate: a slow answer does not delay the next question. */
export const constant = () => ({
  executor: 'constant-arrival-rate',
  rate,
  timeUnit: '1s',
  duration,
  preAllocatedVUs: Math.min(vus, 20),
  maxVUs: vus,
});

/** Asks, and checks the status. */
export function get(params) {
  const answer = http.get(url, params);
  check(answer, { 'status is 200': ({ status }) => status === 200 });
  return answer;
}

/** One line for people, and the whole outcome as a file for programs. */
export function handleSummary(data) {
  const failed = Object.entries(data.metrics).flatMap(([name, { thresholds }]) =>
    Object.entries(thresholds || {}).filter(([, { ok }]) => !ok).map(([limit]) => `${name} ${limit}`));
  const { iterations, http_req_duration: times } = data.metrics;
  const line = [
    `${iterations ? iterations.values.count : 0} iterations`,
    times ? `p50 ${times.values.med.toFixed(2)} ms, p99 ${times.values['p(99)'].toFixed(2)} ms` : '',
    failed.length ? `MISSED: ${failed.join('; ')}` : 'all thresholds met',
  ];
  const outcome = { stdout: `${line.filter(Boolean).join(', ')}\n` };
  if (__ENV.SUMMARY) outcome[__ENV.SUMMARY] = JSON.stringify(data, null, 2);
  return outcome;
}
