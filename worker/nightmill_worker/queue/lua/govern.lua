-- Take or keep the lock of an account's governor, and read the account's lanes.
-- ARGV[1]  the account
-- ARGV[2]  the worker that asks
-- ARGV[3]  length of the lock, ms; every call renews it
-- Returns  false while another worker has the lock; else {seconds, microseconds (Redis TIME), then for
--          each lane: its name, its `hot`, its `kept` or "", calls in flight}.
local account, lock = ARGV[1] .. ':', GOVERNOR .. ARGV[1]
local holder = redis.call('GET', lock)
if holder and holder ~= ARGV[2] then return false end
redis.call('SET', lock, ARGV[2], 'PX', ARGV[3])
local found = redis.call('TIME')
for _, name in ipairs(redis.call('SMEMBERS', LANES)) do
  if string.sub(name, 1, #account) == account then
    local lane = redis.call('HMGET', LANE .. name, 'hot', 'kept')
    if lane[1] then
      local in_flight = redis.call('ZCARD', LANE .. name .. ':slots')
      for _, part in ipairs({ name, lane[1], lane[2] or '', in_flight }) do found[#found + 1] = part end
    end
  end
end
return found
