-- Take notices that are due, for one worker: others see them again only after its lease.
-- ARGV[1]  how many at most
-- ARGV[2]  lease, ms
-- Returns  {id, JSON ...}. Ids whose JSON is gone are removed.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', NOTICES, '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))) do
  local notice = redis.call('GET', NOTICE .. id)
  if notice then
    redis.call('ZADD', NOTICES, now + tonumber(ARGV[2]), id)
    found[#found + 1], found[#found + 2] = id, notice
  else
    redis.call('ZREM', NOTICES, id)
  end
end
return found
