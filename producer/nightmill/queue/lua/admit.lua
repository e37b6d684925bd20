-- Let a request of a key in, if the limits of the key allow one more.
-- ARGV[1]  id of the key
-- ARGV[2]  id of the request
-- ARGV[3]  its requests a minute, "" for no limit
-- ARGV[4]  its requests at one time, "" for no limit
-- Returns  {0 let in | 1 over its requests a minute | 2 over those at one time, requests that it may send
--          at once now, ms until it may send as many as ever, ms after which to ask again}
local key, open = REQUESTS .. ARGV[1], REQUESTS .. ARGV[1] .. ':open'
local a_minute, at_once = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stored = redis.call('HMGET', key, 'level', 'at', 'mean_ms')

-- The number in a field; `other` when it is none, or no size that can be worked with.
local function number(text, other)
  local value = tonumber(text)
  return value and value >= 0 and value < 1e15 and value or other
end

if at_once then
  redis.call('ZREMRANGEBYSCORE', open, '-inf', now)
  if redis.call('ZCARD', open) >= at_once then
    return { 2, 0, 0, math.ceil(number(stored[3], 1000) / at_once) }
  end
end
local left, full_ms = 0, 0
if a_minute then
  -- A clock that went back adds nothing.
  local passed = math.max(0, now - number(stored[2], 0))
  local level = math.min(a_minute, number(stored[1], a_minute) + a_minute * passed / 60000)
  if level < 1 - 1e-6 then
    return { 1, 0, math.ceil((a_minute - level) * 60000 / a_minute), math.ceil((1 - level) * 60000 / a_minute) }
  end
  left, full_ms = math.floor(level - 1 + 1e-6), math.ceil((a_minute - level + 1) * 60000 / a_minute)
  redis.call('HSET', key, 'level', string.format('%.17g', level - 1), 'at', now)
  redis.call('PEXPIRE', key, REQUESTS_TTL_MS)
end
if at_once then
  redis.call('ZADD', open, now + OPEN_TTL_MS, ARGV[2])
  redis.call('PEXPIRE', open, OPEN_TTL_MS)
end
return { 0, left, full_ms, 0 }
