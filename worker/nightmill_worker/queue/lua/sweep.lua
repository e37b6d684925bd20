-- Look after jobs that no claim looks after, a part of the queues each call:
-- - jobs whose worker died;
-- - batches that ended: cancelled, or past their deadline;
-- - what plain arq producers put in the shared queue. arq gives a payload a day to live, so a backlog
--   would lose it: the sweep takes the time-to-live off. arq also computes due times with the
--   producer's clock. When that clock is ahead, a job that is due "later" than now was enqueued now, so
--   its due time is moved back by as much. The time-to-live marks the jobs that no sweep has met yet.
-- No arguments.
-- Returns  {how many jobs became due earlier, names of batches that ended while jobs of theirs are
--          queued ...}.
local EVERY_MS, PART, ROUNDS, EXPIRED, MOST_ENDED = 400, 100, 10, 2000, 1000
local LONGEST_WAIT_MS = 900000 -- no job waits longer in flight, nor after a 429
local now = now_ms()
local state = hash(SWEEP)
local last = bounded(state.at, 0, EXACT, 0)
if now >= last and now - last < EVERY_MS then return { 0 } end

local earlier = 0
local function keep(id, due)
  if redis.call('PERSIST', PAYLOAD .. id) == 0 then return end
  local tail = redis.call('GETRANGE', PAYLOAD .. id, -40, -1)
  local ahead = (tonumber(string.match(tail, '"et":%s*(%d+)%s*}%s*$')) or 0) - now
  if ahead > 0 and due > now and redis.call('EXISTS', IN_PROGRESS .. id) == 0 then
    redis.call('ZADD', QUEUE, 'XX', max(2, due - ahead), id)
    earlier = earlier + 1
  end
end

local function keep_all(flat)
  for i = 1, #flat, 2 do keep(flat[i], tonumber(flat[i + 1])) end
end

-- Scan the whole queue over many calls. In every call also look at its far end, where jobs of a clock
-- that is ahead are.
local cursor = string.match(state.cursor or '', '^%d+$') or '0'
local scanned = redis.call('ZSCAN', QUEUE, cursor, 'COUNT', PART)
keep_all(scanned[2])
for _ = 1, ROUNDS do
  local before = earlier
  keep_all(redis.call('ZREVRANGEBYSCORE', QUEUE, '+inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, PART))
  if earlier == before then break end
end

-- Jobs due at 1 that no abort followed (see claim.lua), or whose producer means "at once" by it. The
-- abort may be recorded a moment later, so a sweep first marks such a job with 0.5, and the next sweep
-- makes it due.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', QUEUE, '-inf', 0.5, 'LIMIT', 0, PART)) do
  redis.call('ZADD', QUEUE, 'XX', now, id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', QUEUE, '(0.5', 1, 'LIMIT', 0, PART)) do
  redis.call('ZADD', QUEUE, 'XX', 0.5, id)
end

-- Redis's clock went back, by `back` ms. What was due before has a due time up to `ahead`, which would
-- come as late as the clock went back. It moves back with the clock, a part of it each call. A due time
-- within LONGEST_WAIT_MS is left alone: it may be new, and it comes soon anyway.
local ahead, back = bounded(state.ahead, 0, EXACT, 0), bounded(state.back, 0, EXACT, 0)
if now < last then ahead, back = last + LONGEST_WAIT_MS, last - now end
local to_move = false
local function move_back(queue)
  local due = redis.call('ZRANGEBYSCORE', queue, '(' .. now + LONGEST_WAIT_MS, ahead, 'WITHSCORES', 'LIMIT', 0, EXPIRED)
  for i = 1, #due, 2 do redis.call('ZADD', queue, 'XX', max(2, due[i + 1] - back), due[i]) end
  if #due == 2 * EXPIRED then to_move = true end
end

-- A job whose worker died has waited its turn once, so it goes to the front of its queue, behind jobs
-- with fewer deaths. That holds when its lease has run out, and when it was put off since. Such a job
-- has a due time between the last sweep and now. A call looks at EXPIRED of them, so a burst of new
-- jobs takes some calls. A lease still lives in the millisecond in which it ends, so this sweep stops
-- 1 ms before now. It also leaves out the score at which it stops.
local from, to = state.looked, now - 1 -- `from` is text, so that it keeps all digits
if bounded(from, 0, EXACT, EXACT) > now then from = now - EVERY_MS end
local function rescue(queue)
  local due = redis.call('ZRANGEBYSCORE', queue, '(' .. from, to, 'WITHSCORES', 'LIMIT', 0, EXPIRED)
  for i = 1, #due, 2 do
    local id = due[i]
    local record = redis.call('HMGET', RECORD .. id, 'state', 'deaths')
    local called = record[1] == 'in_flight' or record[2]
    if called and redis.call('EXISTS', IN_PROGRESS .. id) == 0 then
      redis.call('ZADD', queue, 'XX', 2 + (tonumber(record[2]) or 0), id)
    end
  end
  if #due == 2 * EXPIRED then
    local first, last = tonumber(due[2]), tonumber(due[#due])
    to = min(to, first < last and last - 0.001 or last)
  end
end

-- A deadline ends a batch even when it is paused.
local ended, known = {}, {}
local function end_batch(name)
  local batch = redis.call('HMGET', BATCH .. name, 'flag', 'limits')
  local flag, limits = batch[1], decoded(batch[2]) or {}
  if bounded(limits.expires_at, 0, EXACT, EXACT) <= now then
    flag = move_batch(name, 'expire', 'its deadline has passed')
  end
  if (flag == 'cancelled' or flag == 'expired') and not known[name] and #ended < MOST_ENDED then
    known[name] = true
    ended[#ended + 1] = name
  end
end

local function look_after(queue)
  if back > 0 then move_back(queue) end
  rescue(queue)
  if queue ~= QUEUE then end_batch(batch_of(queue)) end
end

guarded(look_after, QUEUE)
for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do
  local kind = redis.call('TYPE', queue).ok
  if is_utf8(queue) and (kind == 'zset' or kind == 'none') then
    guarded(look_after, queue)
  else -- no worker can claim from it
    redis.call('SREM', QUEUES, queue)
    redis.call('ZADD', FOREIGN, now, queue)
  end
end

if not to_move then back = 0 end
redis.call('HSET', SWEEP, 'at', now, 'cursor', scanned[1], 'looked', string.format('%.6f', to), 'ahead', ahead,
  'back', back)
if earlier > 0 then redis.pcall('PUBLISH', WAKE, earlier) end
return { earlier, unpack(ended) }
