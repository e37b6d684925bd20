-- Look after what nobody claims: jobs whose worker died, ended batches, and what plain arq producers
-- put in the shared queue, a part of it each call. arq gives a payload a day to live, and a backlog
-- would lose it: the time-to-live is taken off. arq also stamps due times with the producer's clock:
-- where that is ahead, what was enqueued "later" than now was enqueued now, and is due as much
-- earlier. The time-to-live marks what is not swept yet.
-- No arguments.
-- Returns  {how many jobs became due earlier, names of batches that were cancelled or whose deadline
--          has passed, while jobs of theirs are queued ...}.
local EVERY_MS, PART, ROUNDS, LAPSED = 400, 100, 10, 2000
local now = now_ms()
local state = hash(SWEEP)
if now - (tonumber(state.at) or 0) < EVERY_MS then return { 0 } end

local earlier = 0
local function look_after(id, due)
  if redis.call('PERSIST', PAYLOAD .. id) == 0 then return end
  local tail = redis.call('GETRANGE', PAYLOAD .. id, -40, -1)
  local ahead = (tonumber(string.match(tail, '"et":%s*(%d+)%s*}%s*$')) or 0) - now
  if ahead > 0 and due > now and redis.call('EXISTS', IN_PROGRESS .. id) == 0 then
    redis.call('ZADD', QUEUE, 'XX', due - ahead, id)
    earlier = earlier + 1
  end
end

local function look_after_all(flat)
  for i = 1, #flat, 2 do look_after(flat[i], tonumber(flat[i + 1])) end
end

-- All of the queue, in time; and at once its far end, where jobs of a clock ahead are.
local scanned = redis.call('ZSCAN', QUEUE, state.cursor or '0', 'COUNT', PART)
look_after_all(scanned[2])
for _ = 1, ROUNDS do
  local before = earlier
  look_after_all(redis.call('ZREVRANGEBYSCORE', QUEUE, '+inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, PART))
  if earlier == before then break end
end

-- Due at 1 and not aborted after all (see claim.lua), or from a producer that says "at once" so.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', QUEUE, '-inf', 1, 'LIMIT', 0, PART)) do
  redis.call('ZADD', QUEUE, 'XX', now, id)
end

-- A job whose worker died was called before: it does not wait again behind all that was queued
-- meanwhile, neither when its lease has run out nor when it was put off since; only behind those whose
-- workers died less often. Its score has come since the last look; LAPSED are looked at a time, so a
-- burst of new jobs takes some looks. A lease still lives in the millisecond in which it ends: that
-- one is left for the next look, as is the score at which this one stops.
local from, to = state.looked or now - EVERY_MS, now - 1 -- as text: no digit is lost
local function rescue(queue)
  local due = redis.call('ZRANGEBYSCORE', queue, '(' .. from, to, 'WITHSCORES', 'LIMIT', 0, LAPSED)
  for i = 1, #due, 2 do
    local id = due[i]
    local record = redis.call('HMGET', RECORD .. id, 'state', 'deaths')
    local called = record[1] == 'in_flight' or record[2]
    if called and redis.call('EXISTS', IN_PROGRESS .. id) == 0 then
      redis.call('ZADD', queue, 'XX', 2 + (tonumber(record[2]) or 0), id)
    end
  end
  if #due == 2 * LAPSED then
    local first, last = tonumber(due[2]), tonumber(due[#due])
    to = math.min(to, first < last and last - 0.001 or last)
  end
end

-- A deadline ends a batch whatever else holds it; what is cancelled stays so.
local told, seen = {}, {}
rescue(QUEUE)
for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do
  rescue(queue)
  local name = batch_of(queue)
  local batch = redis.call('HMGET', BATCH .. name, 'flag', 'limits')
  local flag, limits = batch[1], batch[2] and cjson.decode(batch[2]) or {}
  if flag ~= 'cancelled' and limits.expires_at and limits.expires_at <= now then
    flag = 'expired'
    redis.call('HSET', BATCH .. name, 'flag', flag, 'reason', 'its deadline has passed')
  end
  if (flag == 'cancelled' or flag == 'expired') and not seen[name] then
    seen[name] = true
    told[#told + 1] = name
  end
end

redis.call('HSET', SWEEP, 'at', now, 'cursor', scanned[1], 'looked', string.format('%.6f', to))
if earlier > 0 then redis.call('PUBLISH', WAKE, earlier) end
return { earlier, unpack(told) }
