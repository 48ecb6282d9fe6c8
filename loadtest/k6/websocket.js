// WebSockets that stay open, each with a message a second whose echo must come. The server at URL has to echo.
//   k6 run -e URL=ws://web.localhost:8080/echo -e VUS=1000 -e DURATION=1m loadtest/k6/websocket.js
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';
import { options as all, seconds, duration, url, vus } from './lib/gateway.js';

export { handleSummary } from './lib/gateway.js';
const echo = new Trend('websocket_echo', true);
const broken = new Counter('websocket_broken');
export const options = all({
  scenarios: { sockets: { executor: 'per-vu-iterations', vus, iterations: 1, maxDuration: `${seconds(duration) + 30}s` } },
  thresholds: {
    checks: ['rate==1'],
    websocket_echo: [`p(99)<${__ENV.P99 || 250}`],
    websocket_broken: ['count==0'],
  },
});

export default () => {
  const socket = new WebSocket(url);
  const interval = Math.min(1000, seconds(duration) * 250);
  const sent = new Set();
  socket.onopen = () => {
    const timer = setInterval(() => {
      const message = `${Date.now()}`;
      sent.add(message);
      socket.send(message);
    }, interval);
    setTimeout(() => {
      clearInterval(timer);
      socket.close();
    }, seconds(duration) * 1000);
  };
  socket.onmessage = ({ data }) => {
    check(data, { 'the echo is what was sent': (data) => sent.delete(data) });
    echo.add(Date.now() - Number(data));
  };
  socket.onerror = () => broken.add(1);
};
