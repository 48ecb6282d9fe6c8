-- A new connection for each request.
--   wrk -t1 -c64 -d10s -s loadtest/wrk/new_connection.lua http://127.0.0.1:8080/ -- web.localhost
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "summary.lua")

function init(args)
  wrk.headers["Host"] = args[1] or wrk.host
  wrk.headers["Connection"] = "close"
end
