-- Give jobs back to their queues: to be tried again, after a 429, or at shutdown. A job whose request was
-- replaced during its call (replace.lua) is queued with the new one.
-- ARGV[1]  JSON: items [{id, token, queue, state (retrying | snoozed), wait_ms, counted (0 | 1),
--          refused (0 | 1), input, output (tokens), cost (nano-dollars), failed (0 | 1: the call failed, counted or not), attempt (JSON, "" when no
--          call was made), chain (1: the amounts are those of the whole run so far), to (the queue that it
--          goes to, "" for its own)}]
-- Returns  {ids that another worker holds by now; their jobs were not changed}, {ids of which Redis knows
--          nothing, as renew.lua}. An item that cannot be released does not fail the others. It is
--          logged, and its id is returned too: its lease ends, and the job is claimed again.
local items = cjson.decode(ARGV[1]).items
local now = now_ms()
local counts, late, gone = tally(), {}, {}
local LONGEST_WAIT_MS = 3600000 -- the longest `retry-after` is 15 min

-- A call that broke off is paid for, as far as it reported its usage. A turn's amounts are those of the
-- whole run so far.
local function count_spent(batch, item)
  item.cost = bounded(item.cost, -1, EXACT, 0)
  if item.chain ~= 1 then -- it broke off, and is made again
    local paid = count_usage(counts, batch, item)
    count_wasted(counts, batch, { repeated = paid })
    return paid
  end
  local record = RECORD .. item.id
  local paid = count_usage(counts, batch, item, redis.call('HGET', record, 'chain'))
  local input, output = bounded(item.input, 0, EXACT, 0), bounded(item.output, 0, EXACT, 0)
  local chain = string.format('%.0f %.0f %.0f', input, output, item.cost)
  redis.call('HSET', record, 'chain', chain)
  return paid
end

-- Put the job into another queue, that of the model which its next call names.
local function move(item, batch)
  redis.call('ZREM', item.queue, item.id)
  redis.call('SADD', QUEUES, item.to)
  redis.call('SADD', QUEUES_OF .. batch, item.to)
end

local function release(item)
  local record, batch = RECORD .. item.id, batch_of(item.queue)
  if not holds(item.id, item.token) then
    local of = is_gone(item.id) and gone or late
    of[#of + 1] = item.id
    return
  end
  local paid = count_spent(batch, item)
  local replaced = redis.call('HMGET', record, 'next', 'next_queue', 'payer')
  if replaced[3] then payers.charge(replaced[3], item.id, paid, now) end
  if replaced[1] then
    if item.attempt ~= '' then add_attempt(item.id, item.attempt) end
    counts.add(batch, 'in_flight', -1)
    return put_request(item.id, batch, item.queue, replaced[2], replaced[1], now)
  end
  local counted = bounded(item.counted, 0, 1, 0)
  local due = now + bounded(item.wait_ms, 0, LONGEST_WAIT_MS, 0)
  if type(item.to) == 'string' and item.to ~= '' and item.to ~= item.queue then
    move(item, batch)
    redis.call('ZADD', item.to, due, item.id)
  else
    redis.call('ZADD', item.queue, 'XX', due, item.id)
  end
  redis.call('DEL', IN_PROGRESS .. item.id)
  redis.call('HDEL', record, 'token')
  redis.call('HSET', record, 'state', item.state)
  counts.add(batch, 'in_flight', -1)
  counts.add(batch, item.state, 1)
  redis.call('HINCRBY', record, 'counted', counted)
  redis.call('HINCRBY', record, 'snoozes', 1 - counted)
  if item.refused == 1 then
    redis.call('HINCRBY', record, 'refusals', 1)
    counts.add(batch, 'refused', 1)
  else
    redis.call('HDEL', record, 'refusals')
  end
  if item.failed == 1 then
    redis.call('HSETNX', record, 'failed_at', now)
    redis.call('HINCRBY', record, 'outages', 1 - counted)
  end
  if item.attempt ~= '' then
    add_attempt(item.id, item.attempt)
  else
    redis.call('HINCRBY', record, 'calls', -1)
  end
end

for _, item in ipairs(items) do
  if not guarded(release, item) then late[#late + 1] = tostring(item.id) end
end
counts.write()
return { late, gone }
