-- Append points to the history (nightmill/reports/history.py): one to each series in each step, by the process that
-- comes first. Points are counters at one moment, so that a missing point changes no sum.
-- ARGV[1]  when the points were read, epoch seconds
-- ARGV[2]  JSON: the spans, each [name, step (s), most points]
-- ARGV[3..] for each series: its name, its point (a JSON array that begins with ARGV[1])
-- Returns  how many points were written.
local at, spans, written = tonumber(ARGV[1]), cjson.decode(ARGV[2]), 0
local now = now_ms() / 1000

-- The time of the newest point of a list, nil without one. Points of a time that has not come were written
-- before Redis's clock went back: they are removed, or nothing could be written until then.
local function newest(key)
  while true do
    local last = redis.call('LINDEX', key, -1)
    if not last then return nil end
    local when = tonumber(string.match(last, '^%[([%d.]+)'))
    if when and when <= now + 1 then return when end
    redis.call('LREM', key, -1, last)
  end
end

local function append(series, point, span)
  local name, step, most = span[1], span[2], span[3]
  local key = HISTORY .. name .. ':' .. series
  local last = newest(key)
  if last and (last >= at or math.floor(last / step) == math.floor(at / step)) then return end
  if redis.call('RPUSH', key, point) > most then redis.call('LPOP', key) end
  -- A series that ends is gone after twice its span. The time is renewed now and then, not each time.
  local lives = 2 * step * most * 1000
  if redis.call('PTTL', key) < lives * 3 / 4 then redis.call('PEXPIRE', key, lives) end
  written = written + 1
end

for i = 3, #ARGV, 2 do
  for _, span in ipairs(spans) do guarded(append, ARGV[i], ARGV[i + 1], span) end
end
return written
