-- Put claimed jobs back into a Redis that has lost them: payload, place in the queue, record, lease, slot.
-- A job that was fed again meanwhile and that nobody has claimed becomes its holder's: its call is
-- under way. The caller has looked in the store: these jobs have no row.
-- ARGV[1]  JSON: account, worker, lease_ms, items [{id, token, queue, lane, calls, counted, snoozes,
--          refusals, outages, failed_at (0 for none), calling (whether its call is under way),
--          attempts [JSON as text ...], cut ("" for none)}]
-- ARGV[2..] the payloads, one for each item, in order
-- Returns  the ids that another worker holds or has ended by now; their jobs were not changed. An item
--          that cannot be put back does not fail the others. It is logged, and its id is returned too.
local ask = cjson.decode(ARGV[1])
local now = now_ms()
local lease_end = now + ask.lease_ms
local counts, lost = tally(), {}

local function put_in_queue(item, batch)
  redis.call('ZADD', item.queue, lease_end, item.id)
  if batch ~= SINGLES then
    redis.call('SADD', QUEUES, item.queue)
    redis.call('SADD', QUEUES_OF .. batch, item.queue)
    redis.call('SADD', BATCHES, batch)
  end
end

local function restore(item, payload)
  local id, record, batch = item.id, RECORD .. item.id, batch_of(item.queue)
  local known = redis.call('HMGET', record, 'token', 'state')
  local ended = redis.call('EXISTS', RESULT .. id) == 1
  if ended or known[1] and known[1] ~= item.token or known[2] and not known[1] then
    lost[#lost + 1] = id
    return
  end
  redis.call('SET', PAYLOAD .. id, payload, 'NX')
  redis.call('SET', IN_PROGRESS .. id, item.token, 'PX', ask.lease_ms)
  put_in_queue(item, batch)
  if not known[2] then
    counts.add(batch, 'in_flight', 1)
    redis.call('HSET', record, 'state', 'in_flight', 'token', item.token, 'worker', ask.worker,
      'claimed_at', now, 'calls', item.calls, 'counted', item.counted, 'snoozes', item.snoozes,
      'refusals', item.refusals, 'outages', item.outages)
    if item.failed_at > 0 then redis.call('HSET', record, 'failed_at', item.failed_at) end
    if item.cut ~= '' then redis.call('HSET', record, 'cut', item.cut) end
    if #item.attempts > 0 then redis.call('RPUSH', ATTEMPTS .. id, unpack(item.attempts)) end
  end
  if item.calling then -- an answered call has given its slot back
    redis.call('ZADD', LANE .. ask.account .. ':' .. item.lane .. ':slots', lease_end, item.token)
  end
end

for i, item in ipairs(ask.items) do
  if not guarded(restore, item, ARGV[i + 1]) then lost[#lost + 1] = tostring(item.id) end
end
counts.write()
return lost
