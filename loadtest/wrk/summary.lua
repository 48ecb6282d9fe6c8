-- The outcome of a run of wrk as one line of JSON, for the scripts beside this file.

-- What wrk calls at the end. Times are milliseconds.
function done(summary, latency, _)
  local errors = summary.errors
  local at = function(percentile) return latency:percentile(percentile) / 1000 end
  io.write(string.format(
    '{"requests":%d,"seconds":%.3f,"requests_a_second":%.1f,"bytes":%d,'
      .. '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d},'
      .. '"latency_ms":{"min":%.3f,"p50":%.3f,"p90":%.3f,"p99":%.3f,"p99.9":%.3f,"max":%.3f}}\n',
    summary.requests, summary.duration / 1e6, summary.requests / (summary.duration / 1e6), summary.bytes,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency.min / 1000, at(50), at(90), at(99), at(99.9), latency.max / 1000))
end
