-- Give jobs back to their queues: to be tried again, after a 429, or at shutdown.
-- ARGV[1]  JSON: items [{id, token, queue, state (retrying | snoozed), wait_ms, counted (0 | 1),
--          refused (0 | 1), attempt (JSON, "" when no call was made)}]
-- Returns  the ids that another worker holds by now; their jobs were not changed.
local items = cjson.decode(ARGV[1]).items
local now = now_ms()
local counts, late = tally(), {}
for _, item in ipairs(items) do
  local record = RECORD .. item.id
  if holds(item.id, item.token) then
    redis.call('ZADD', item.queue, 'XX', now + item.wait_ms, item.id)
    redis.call('DEL', IN_PROGRESS .. item.id)
    redis.call('HDEL', record, 'token', 'alone')
    redis.call('HSET', record, 'state', item.state)
    redis.call('HINCRBY', record, 'counted', item.counted)
    redis.call('HINCRBY', record, 'snoozes', 1 - item.counted)
    if item.refused == 1 then
      redis.call('HINCRBY', record, 'refusals', 1)
    else
      redis.call('HDEL', record, 'refusals')
    end
    if item.attempt ~= '' then
      add_attempt(item.id, item.attempt)
    else
      redis.call('HINCRBY', record, 'calls', -1)
    end
    local batch = batch_of(item.queue)
    counts.add(batch, 'in_flight', -1)
    counts.add(batch, item.state, 1)
  else
    late[#late + 1] = item.id
  end
end
counts.write()
return late
