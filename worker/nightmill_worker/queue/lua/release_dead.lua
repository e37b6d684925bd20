-- End the leases of a worker whose process is known to have ended, so that its jobs are due at once.
-- A job goes to the front of its queue, behind jobs with fewer deaths, as sweep.lua does when a lease
-- has run out. Its record stays: the next claim counts the death and the lost call.
-- ARGV[1]  JSON: worker, account, queue (to look at in this call), skip (jobs of it to pass over)
-- Returns  {how many leases were ended, how many jobs were passed over or are held by others, 1 when
--          more jobs follow in the queue, else 0}.
local ask = cjson.decode(ARGV[1])
local PART = 1000
local LONGEST_LEASE_MS = 3600000 -- the largest LEASE_S
local now, start = now_ms(), ask.worker .. ':'
local tokens, others = {}, ask.skip

local function end_lease(id)
  local token = redis.call('GET', IN_PROGRESS .. id)
  if not token or string.sub(token, 1, #start) ~= start then
    others = others + 1
    return
  end
  local deaths = bounded(redis.call('HGET', RECORD .. id, 'deaths'), 0, EXACT, 0)
  redis.call('DEL', IN_PROGRESS .. id)
  redis.call('ZADD', ask.queue, 'XX', 2 + deaths, id)
  tokens[#tokens + 1] = token
end

-- A slot whose lease has run out is taken from its lane by the next claim.
local function end_slots()
  for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
    for _, token in ipairs(tokens) do redis.call('ZADD', LANE .. lane .. ':slots', 'XX', now, token) end
  end
end

local found = redis.call('ZRANGEBYSCORE', ask.queue, '(' .. now, now + LONGEST_LEASE_MS, 'LIMIT', ask.skip, PART)
for _, id in ipairs(found) do
  if not guarded(end_lease, id) then others = others + 1 end
end
if #tokens > 0 then guarded(end_slots) end
if redis.call('GET', GOVERNOR .. ask.account) == ask.worker then redis.call('DEL', GOVERNOR .. ask.account) end
redis.call('DEL', GRANT .. ask.worker)
redis.call('HDEL', WORKERS, ask.worker)
redis.call('HDEL', TROUBLES, ask.worker)
return { #tokens, others, #found == PART and 1 or 0 }
