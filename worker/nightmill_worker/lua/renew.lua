-- Prolong leases, all of a worker's in one call.
-- ARGV[1]  JSON: line, lease_ms, items [{id, token, queue, model}]
-- Returns  the ids that are no longer this worker's.
local ask = cjson.decode(ARGV[1])
local lease_end = now_ms() + ask.lease_ms
local lost = {}
for _, item in ipairs(ask.items) do
  if holds(item.id, item.token) then
    redis.call('SET', IN_PROGRESS .. item.id, item.token, 'PX', ask.lease_ms)
    redis.call('ZADD', item.queue, 'XX', lease_end, item.id)
    redis.call('ZADD', LANE .. ask.line .. ':' .. item.model .. ':slots', 'XX', lease_end, item.token)
  else
    lost[#lost + 1] = item.id
  end
end
return lost
