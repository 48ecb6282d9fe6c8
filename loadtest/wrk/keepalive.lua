-- Small requests over kept connections: the most that the gateway can do, not a latency that may be quoted.
--   wrk -t1 -c64 -d10s -s loadtest/wrk/keepalive.lua http://127.0.0.1:8080/ -- web.localhost
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "summary.lua")

function init(args)
  wrk.headers["Host"] = args[1] or wrk.host
end
