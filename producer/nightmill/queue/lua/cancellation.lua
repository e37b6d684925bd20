-- Take jobs of a batch that was cancelled, or whose deadline has passed, out of one of its queues.
-- Nothing is leased: rows of this batch are the same whoever writes them, and a job that is gone
-- is not taken out again. What is in flight ends by itself.
-- ARGV[1]  queue
-- ARGV[2]  batch
-- ARGV[3]  who asks; while somebody else is at it, nothing is done
-- ARGV[4]  from which rank of the queue to look on
-- ARGV[5]  how many jobs to look at
-- ARGV[6..] jobs whose rows are committed: id, what to keep under arq:result:<id> ...
-- Returns  {flag ("" = not ended, or somebody else is at it), jobs in flight among those looked at,
--          {id, payload or "", attempts as JSON, what was cut out of them as JSON or ""} ...}.
local queue, batch, who = ARGV[1], ARGV[2], ARGV[3]
local key, place = BATCH .. batch, CANCELLATION .. batch
local flag = redis.call('HGET', key, 'flag')
local holder = redis.call('GET', place)
if flag ~= 'cancelled' and flag ~= 'expired' or holder and holder ~= who then return { '', 0 } end
redis.call('SET', place, who, 'PX', CANCELLATION_TTL_MS)

local function in_flight(id) return redis.call('EXISTS', IN_PROGRESS .. id) == 1 end

local gone, left = {}, {}
for i = 6, #ARGV, 2 do
  local id = ARGV[i]
  if not in_flight(id) and redis.call('ZREM', queue, id) == 1 then
    local state = redis.call('HGET', RECORD .. id, 'state')
    if state then left[state] = (left[state] or 0) - 1 end
    left[flag] = (left[flag] or 0) + 1
    for _, prefix in ipairs({ PAYLOAD, RECORD, ATTEMPTS }) do gone[#gone + 1] = prefix .. id end
    redis.call('SET', RESULT .. id, ARGV[i + 1], 'PX', RESULT_TTL_MS)
    redis.call('ZREM', ABORTS, id)
  end
end
if #gone > 0 then redis.call('DEL', unpack(gone)) end
for state, change in pairs(left) do redis.call('HINCRBY', key, state, change) end
if redis.call('EXISTS', queue) == 0 then redis.call('SREM', QUEUES, queue) end

local found, busy = {}, 0
for _, id in ipairs(redis.call('ZRANGE', queue, ARGV[4], ARGV[4] + ARGV[5] - 1)) do
  if in_flight(id) then
    busy = busy + 1
  else
    local attempts = table.concat(redis.call('LRANGE', ATTEMPTS .. id, 0, -1), ',')
    local cut = redis.call('HGET', RECORD .. id, 'cut') or ''
    found[#found + 1] = { id, redis.call('GET', PAYLOAD .. id) or '', '[' .. attempts .. ']', cut }
  end
end
return { flag, busy, unpack(found) }
