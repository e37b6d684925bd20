-- Take or keep the lock of an account's governor, and read the account's lanes.
-- ARGV[1]  the account
-- ARGV[2]  the worker that asks
-- ARGV[3]  length of the lock, ms; every call renews it
-- Returns  false while another worker has the lock; else {seconds, microseconds (Redis TIME), then for
--          each lane: its name, its `hot`, its `kept` or "", calls in flight}.
local account, lock = ARGV[1] .. ':', GOVERNOR .. ARGV[1]
local holder = redis.call('GET', lock)
-- A lock that lives longer than it can was set before Redis's clock went back.
local live = holder and redis.call('PTTL', lock) <= tonumber(ARGV[3])
if live and holder ~= ARGV[2] then return false end
redis.call('SET', lock, ARGV[2], 'PX', ARGV[3])
local found = redis.call('TIME')
local function read(name)
  local lane = redis.call('HMGET', LANE .. name, 'hot', 'kept')
  if not lane[1] then return end
  local in_flight = redis.call('ZCARD', LANE .. name .. ':slots')
  for _, part in ipairs({ name, lane[1], lane[2] or '', in_flight }) do found[#found + 1] = part end
end
for _, name in ipairs(redis.call('SMEMBERS', LANES)) do
  if string.sub(name, 1, #account) == account then guarded(read, name) end
end
return found
