-- Uploads of 64 KiB over kept connections.
--   wrk -t1 -c16 -d10s -s loadtest/wrk/upload.lua http://127.0.0.1:8080/ -- web.localhost
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "summary.lua")

function init(args)
  wrk.method = "POST"
  wrk.body = string.rep("x", 65536)
  wrk.headers["Host"] = args[1] or wrk.host
  wrk.headers["Content-Type"] = "application/octet-stream"
end
