-- Give jobs of a batch that have not ended other requests. A job in flight keeps its request until its
-- call has ended: finish.lua, release.lua or, when its worker died, claim.lua then queues the new one.
-- ARGV[1]  batch
-- ARGV[2..] id, queue of the new request, its payload, and "", "": or state and stop reason of a row that
--          answers the new request already: then the job is taken out, and its row counts again; id ...
-- Returns  one digit a job, in order: 1 replaced, 2 in flight (replaced when its call has ended), 3 taken
--          out, 0 not in Redis any more; or the batch's flag, "cancelled" or "expired": nothing was changed.
local batch = ARGV[1]
local flag = redis.call('HGET', BATCH .. batch, 'flag')
if flag == 'cancelled' or flag == 'expired' then return flag end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local queues = redis.call('SMEMBERS', QUEUES_OF .. batch)

local function place_of(id)
  for _, queue in ipairs(queues) do
    local due = redis.call('ZSCORE', queue, id)
    if due then return queue, tonumber(due) end
  end
end

local function replace(id, queue, payload, answered_as, stopped_with)
  local from, due = place_of(id)
  if not from then return '0' end
  local record = RECORD .. id
  local state = redis.call('HGET', record, 'state')
  if state == 'in_flight' then
    redis.call('HSET', record, 'next', payload, 'next_queue', queue)
    return '2'
  end
  if state then add_count(BATCH .. batch, state, -1) end
  if answered_as == '' then
    put_request(id, batch, from, queue, payload, math.min(due, now))
    return '1'
  end
  redis.call('ZREM', from, id)
  redis.call('DEL', PAYLOAD .. id, record, ATTEMPTS .. id)
  add_count(BATCH .. batch, answered_as, 1)
  if stopped_with ~= '' then add_count(BATCH .. batch, STOP .. stopped_with, 1) end
  return '3'
end

local codes = {}
for i = 2, #ARGV, 5 do codes[#codes + 1] = replace(unpack(ARGV, i, i + 4)) end
redis.pcall('PUBLISH', WAKE, #codes)
return table.concat(codes)
