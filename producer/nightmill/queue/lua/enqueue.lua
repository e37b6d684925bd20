-- Enqueue jobs into one queue, many jobs a call.
-- ARGV[1]  queue
-- ARGV[2]  batch that the jobs are counted under ("" for single jobs)
-- ARGV[3]  delay before the jobs are due, ms
-- ARGV[4]  1 = enqueue a job also when Redis still holds the result of its earlier run: the caller has
--          looked in the store; 0 = do not
-- ARGV[5]  for later runs: the state their earlier run ended in, whose count they leave; "" for first runs
-- ARGV[6]  the stop reason that the answers of those runs are counted under, "" for none
-- ARGV[7..] id, payload, id, payload ...
-- Returns  one digit a job, in order: 1 enqueued, 0 queued or in flight already, 2 ended already;
--          or the batch's flag, "cancelled" or "expired", when it has ended: no job was enqueued.
local queue, batch, delay, again = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local ended_as, stopped_with = ARGV[5], ARGV[6]
local flag = batch ~= SINGLES and redis.call('HGET', BATCH .. batch, 'flag')
if flag == 'cancelled' or flag == 'expired' then return flag end
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + delay

local results = {}
for i = 7, #ARGV, 2 do results[#results + 1] = RESULT .. ARGV[i] end
local any_ended = not again and redis.call('EXISTS', unpack(results)) > 0

-- Redis may have lost the queue of a job, and not its payload. Such a job is put in the queue again.
local queues = nil
local function is_lost(id)
  if not queues then
    queues = redis.call('SMEMBERS', QUEUES_OF .. batch)
    if batch == SINGLES then queues[#queues + 1] = QUEUE end
  end
  for _, name in ipairs(queues) do
    if redis.call('ZSCORE', name, id) then return false end
  end
  return redis.call('EXISTS', IN_PROGRESS .. id) == 0
end

local codes, added = {}, {}
for i = 7, #ARGV, 2 do
  local id = ARGV[i]
  if any_ended and redis.call('EXISTS', RESULT .. id) == 1 then
    codes[#codes + 1] = '2'
  elseif redis.call('SET', PAYLOAD .. id, ARGV[i + 1], 'NX') or is_lost(id) then
    if again then redis.call('DEL', RESULT .. id) end
    codes[#codes + 1] = '1'
    added[#added + 1] = due + #added / 16384 -- a sorted set orders equal scores by id; this keeps ours
    added[#added + 1] = id
  else
    codes[#codes + 1] = '0'
  end
end

if #added > 0 then
  redis.call('ZADD', queue, 'NX', unpack(added))
  if batch ~= SINGLES then
    redis.call('SADD', QUEUES, queue)
    redis.call('SADD', QUEUES_OF .. batch, queue)
    redis.call('SADD', BATCHES, batch)
  end
  if ended_as ~= '' then add_count(BATCH .. batch, ended_as, -#added / 2) end
  if stopped_with ~= '' then
    local field = STOP .. stopped_with
    if not redis.call('HGET', BATCH .. batch, field) then field = STOP .. 'other' end
    add_count(BATCH .. batch, field, -#added / 2)
  end
  redis.pcall('PUBLISH', WAKE, #added / 2) -- best effort: workers also look by themselves
end
return table.concat(codes)
