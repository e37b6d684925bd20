-- Take finished jobs out of their queues; called only after their rows are committed. A job whose request
-- was replaced during its call (replace.lua) is queued with the new one: its next run.
-- ARGV[1]  JSON: canary (identical failures in a row that pause a batch, 0 = never), items [{id,
--          token, queue, status, again (0 | 1: its row was stored before this claim), input,
--          output (tokens), cost (nano-dollars, -1 = unknown), fault (the cause of a failure, else
--          ""), stop (the stop reason that its answer is counted under, "" for none), wasted
--          (kind -> nano-dollars of its cost that bought no result), notice
--          ([id, JSON] of the notice that the job has ended, [] for none)}]
-- ARGV[2..] what to keep under arq:result:<id>, one for each item, in order
-- Returns  the ids that another worker holds by now; their jobs were not changed. An item that cannot be
--          finished does not fail the others. It is logged, and its id is returned too: its lease ends,
--          and the next claim finds its row.
local ask = cjson.decode(ARGV[1])
local counts, late = tally(), {}
local keys, ids_of = {}, {}

-- When all jobs of a batch fail alike, the batch as a whole is wrong: it is paused before more of its
-- jobs are paid for.
local streaks = {}
local function watch_canary(batch, item)
  if batch == SINGLES or ask.canary == 0 then return end
  if not streaks[batch] then
    local known = redis.call('HMGET', BATCH .. batch, 'streak', 'streak_of', 'canary')
    streaks[batch] = { length = bounded(known[1], 0, EXACT, 0), of = known[2] or '', off = known[3] == '0' }
    streaks[batch].before = streaks[batch].length
  end
  local streak, fault = streaks[batch], type(item.fault) == 'string' and item.fault or ''
  if fault == '' then
    streak.length = 0
  else
    streak.length = fault == streak.of and streak.length + 1 or 1
    streak.of = fault
  end
  if streak.length == ask.canary and not streak.off then
    move_batch(batch, 'pause', streak.length .. ' jobs in a row failed alike: ' .. fault)
  end
end

-- The field that counts a stop reason. Once a batch counts many, it counts further ones as "other": an
-- endpoint may make up any number of names.
local stop_fields = {}
local function stop_field(batch, name)
  local of = stop_fields[batch]
  if not of then
    of = { room = MOST_STOPS }
    for field in pairs(hash(BATCH .. batch)) do
      if string.sub(field, 1, #STOP) == STOP then
        of[field], of.room = true, of.room - 1
      end
    end
    stop_fields[batch] = of
  end
  local field = STOP .. name
  if not of[field] then
    if of.room <= 0 then return STOP .. 'other' end
    of[field], of.room = true, of.room - 1
  end
  return field
end

local function count_state(batch, item, change)
  counts.add(batch, item.status, change)
  if type(item.stop) == 'string' and item.stop ~= '' then
    counts.add(batch, stop_field(batch, item.stop), change)
  end
end

local function count_spent(batch, item, chain)
  if item.status == 'succeeded' then counts.add(batch, 'answers', 1) end
  return count_usage(counts, batch, item, chain)
end

-- What the key of a job pays: what was counted, -1 for an answer without a known price.
local function cost_of(item, paid)
  return bounded(item.cost, -1, EXACT, -1) < 0 and item.status == 'succeeded' and -1 or paid
end

-- Another worker holds the job by now, but this answer was paid for as well. Its row may be the one that
-- the other worker finds: then it is not counted again (`spent`).
local function count_late(item, holder)
  late[#late + 1] = item.id
  if not holder or item.again ~= 0 then return end
  local batch = batch_of(item.queue)
  local known = redis.call('HMGET', RECORD .. item.id, 'chain', 'payer')
  local paid = count_spent(batch, item, known[1])
  if known[2] then payers.charge(known[2], item.id, cost_of(item, paid), now_ms(), true) end
  count_wasted(counts, batch, { repeated = paid })
  redis.call('HSET', RECORD .. item.id, 'spent', 1)
end

-- The new request of a job, nil when it has none or does not run again: it or its batch was cancelled.
local function next_request(batch, item, record)
  if not record[4] or item.status == 'cancelled' then return nil end
  local flag = redis.call('HGET', BATCH .. batch, 'flag')
  return flag ~= 'cancelled' and flag ~= 'expired' and record[4] or nil
end

-- A notice is kept in the same script that ends the job, so that neither is without the other. One
-- that was kept before is not sent again.
local function keep_notice(notice)
  if redis.call('SET', NOTICE .. notice[1], notice[2], 'NX', 'PX', NOTICE_TTL_MS) then
    redis.call('ZADD', NOTICES, 0, notice[1])
  end
end

local function finish(item, kept)
  local id, batch = item.id, batch_of(item.queue)
  local record = redis.call('HMGET', RECORD .. id, 'token', 'deaths', 'ending', 'next', 'next_queue', 'spent',
    'chain', 'payer')
  if record[1] ~= item.token then return count_late(item, record[1]) end
  local again = next_request(batch, item, record)
  if again then
    redis.call('DEL', RECORD .. id, ATTEMPTS .. id)
    put_request(id, batch, item.queue, record[5], again, now_ms())
  else
    redis.call('SET', RESULT .. id, kept, 'PX', batch == SINGLES and RESULT_TTL_MS or MARKER_TTL_MS)
    if type(item.notice) == 'table' and item.notice[2] then keep_notice(item.notice) end
    local n = #keys
    keys[n + 1], keys[n + 2], keys[n + 3], keys[n + 4] = PAYLOAD .. id, IN_PROGRESS .. id, RECORD .. id, ATTEMPTS .. id
    ids_of[item.queue] = ids_of[item.queue] or {}
    table.insert(ids_of[item.queue], id)
  end
  counts.add(batch, 'in_flight', -1)
  local cost = 0
  -- A row that was stored before was counted then, unless the job's worker died, or a cancellation that
  -- wrote it (`ending`): they may have died between the commit and the count.
  if item.again == 0 or record[3] or bounded(record[2], 0, EXACT, 0) > 0 then
    if item.again == 0 or not record[6] then
      local paid = count_spent(batch, item, record[7])
      cost = cost_of(item, paid)
      count_wasted(counts, batch, again and { repeated = paid } or item.wasted)
    end
    if not again then
      count_state(batch, item, 1)
      watch_canary(batch, item)
    end
  elseif again then
    count_state(batch, item, -1)
  end
  if record[8] then payers.charge(record[8], id, cost, now_ms()) end
end

local function take_out(queue, ids)
  redis.call('ZREM', queue, unpack(ids))
  if redis.call('EXISTS', ABORTS) == 1 then redis.call('ZREM', ABORTS, unpack(ids)) end
end

for i, item in ipairs(ask.items) do
  if not guarded(finish, item, ARGV[i + 1]) then late[#late + 1] = tostring(item.id) end
end
for queue, ids in pairs(ids_of) do guarded(take_out, queue, ids) end
if #keys > 0 then redis.call('DEL', unpack(keys)) end
for batch, streak in pairs(streaks) do
  if streak.length > 0 or streak.before > 0 then
    guarded(redis.call, 'HSET', BATCH .. batch, 'streak', streak.length, 'streak_of', streak.of)
  end
end
counts.write()
return late
