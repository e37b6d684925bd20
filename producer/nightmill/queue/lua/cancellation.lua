-- Take jobs out of one queue of a batch that was cancelled or whose deadline has passed.
-- No job is leased: every process writes the same row for a job, and a job that is gone is not taken
-- out again. Jobs in flight are left alone.
-- ARGV[1]  queue
-- ARGV[2]  batch
-- ARGV[3]  name of the calling process; while another process holds the batch, nothing is done
-- ARGV[4]  rank in the queue of the first job to read
-- ARGV[5]  number of jobs to read
-- ARGV[6..] jobs whose rows are committed: id, state of its row, value for arq:result:<id>, id ... They
--          are taken out and counted whatever the batch's state is by now: their rows are stored.
-- Returns  {flag ("" = not ended, or held by another process), jobs in flight among those read,
--          {id, payload or "", attempts as JSON, sums over attempts cut out as JSON or ""} ...}.
local queue, batch, process = ARGV[1], ARGV[2], ARGV[3]
local key, lock = BATCH .. batch, CANCELLATION .. batch

local function in_flight(id) return redis.call('EXISTS', IN_PROGRESS .. id) == 1 end

local deleted, changes = {}, {}
for i = 6, #ARGV, 3 do
  local id, ended_as = ARGV[i], ARGV[i + 1]
  if not in_flight(id) and redis.call('ZREM', queue, id) == 1 then
    local state = redis.call('HGET', RECORD .. id, 'state')
    if state then changes[state] = (changes[state] or 0) - 1 end
    changes[ended_as] = (changes[ended_as] or 0) + 1
    for _, prefix in ipairs({ PAYLOAD, RECORD, ATTEMPTS }) do deleted[#deleted + 1] = prefix .. id end
    redis.call('SET', RESULT .. id, ARGV[i + 2], 'PX', MARKER_TTL_MS)
    redis.call('ZREM', ABORTS, id)
  end
end
if #deleted > 0 then redis.call('DEL', unpack(deleted)) end
for state, change in pairs(changes) do add_count(key, state, change) end
if redis.call('EXISTS', queue) == 0 then redis.call('SREM', QUEUES, queue) end

local flag, holder = redis.call('HGET', key, 'flag'), redis.call('GET', lock)
if flag ~= 'cancelled' and flag ~= 'expired' or holder and holder ~= process then return { '', 0 } end
-- While the lock is held, no move (move.lua) opens the batch: a job must not be claimed between its
-- reading here and the commit of its row.
redis.call('SET', lock, process, 'PX', CANCELLATION_TTL_MS)

local jobs, running = {}, 0
for _, id in ipairs(redis.call('ZRANGE', queue, ARGV[4], ARGV[4] + ARGV[5] - 1)) do
  if in_flight(id) then
    running = running + 1
  else
    local attempts = table.concat(redis.call('LRANGE', ATTEMPTS .. id, 0, -1), ',')
    local cut = redis.call('HGET', RECORD .. id, 'cut') or ''
    -- Its row is written now, and counted when the job is taken out: here, or by the worker that
    -- claims it because the lock ran out.
    redis.call('HSET', RECORD .. id, 'ending', flag)
    jobs[#jobs + 1] = { id, redis.call('GET', PAYLOAD .. id) or '', '[' .. attempts .. ']', cut }
  end
end
if #jobs == 0 and running == 0 then redis.call('DEL', lock) end
return { flag, running, unpack(jobs) }
