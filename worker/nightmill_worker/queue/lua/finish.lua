-- Take finished jobs out of their queues; called only after their rows are committed.
-- ARGV[1]  JSON: canary (identical failures in a row that pause a batch, 0 = never), items [{id,
--          token, queue, status, again (0 | 1: its row was stored before this claim), input,
--          output (tokens), cost (nano-dollars, -1 = unknown), fault (the cause of a failure, else
--          "")}]
-- ARGV[2..] what to keep under arq:result:<id>, one for each item, in order
-- Returns  the ids that another worker holds by now; their jobs were not changed.
local ask = cjson.decode(ARGV[1])
local counts, late = tally(), {}
local keys, ids_of = {}, {}

-- When all jobs of a batch fail alike, the batch as a whole is wrong: it is paused before more of its
-- jobs are paid for.
local streaks = {}
local function watch_canary(batch, item)
  if batch == SINGLES or ask.canary == 0 then return end
  if not streaks[batch] then
    local known = redis.call('HMGET', BATCH .. batch, 'streak', 'streak_of')
    streaks[batch] = { length = tonumber(known[1]) or 0, of = known[2] or '' }
    streaks[batch].before = streaks[batch].length
  end
  local streak = streaks[batch]
  if item.fault == '' then
    streak.length = 0
  else
    streak.length = item.fault == streak.of and streak.length + 1 or 1
    streak.of = item.fault
  end
  if streak.length == ask.canary then
    local reason = streak.length .. ' jobs in a row failed alike: ' .. item.fault
    redis.call('HSET', BATCH .. batch, 'flag', 'paused', 'reason', reason)
  end
end

for i, item in ipairs(ask.items) do
  local record = redis.call('HMGET', RECORD .. item.id, 'token', 'deaths')
  if record[1] == item.token then
    local id, batch = item.id, batch_of(item.queue)
    for _, prefix in ipairs({ PAYLOAD, IN_PROGRESS, RECORD, ATTEMPTS }) do keys[#keys + 1] = prefix .. id end
    ids_of[item.queue] = ids_of[item.queue] or {}
    table.insert(ids_of[item.queue], id)
    redis.call('SET', RESULT .. id, ARGV[i + 1], 'PX', RESULT_TTL_MS)
    counts.add(batch, 'in_flight', -1)
    -- A row that was stored before was counted then, unless the job's worker died: it may have died
    -- between the commit and the count.
    if item.again == 0 or (tonumber(record[2]) or 0) > 0 then
      counts.add(batch, item.status, 1)
      counts.add(batch, 'input_tokens', item.input)
      counts.add(batch, 'output_tokens', item.output)
      counts.add(batch, item.cost < 0 and 'unpriced' or 'nanodollars', math.abs(item.cost))
      watch_canary(batch, item)
    end
  else
    late[#late + 1] = item.id
  end
end
for queue, ids in pairs(ids_of) do
  redis.call('ZREM', queue, unpack(ids))
  if redis.call('EXISTS', ABORTS) == 1 then redis.call('ZREM', ABORTS, unpack(ids)) end
end
if #keys > 0 then redis.call('DEL', unpack(keys)) end
for batch, streak in pairs(streaks) do
  if streak.length > 0 or streak.before > 0 then
    redis.call('HSET', BATCH .. batch, 'streak', streak.length, 'streak_of', streak.of)
  end
end
counts.write()
return late
