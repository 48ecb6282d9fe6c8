-- Many hosts, in turn: PATTERN with a number in place of %d, from 0 to N - 1.
--   wrk -t1 -c64 -d10s -s loadtest/wrk/hosts.lua http://127.0.0.1:8080/ -- 'route-%d.example' 10000
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "summary.lua")

local requests, next_one = {}, 0

function init(args)
  for number = 0, tonumber(args[2] or 1) - 1 do
    wrk.headers["Host"] = (args[1] or wrk.host):format(number)
    requests[number] = wrk.format()
  end
end

function request()
  local text = requests[next_one]
  next_one = (next_one + 1) % (#requests + 1)
  return text
end
