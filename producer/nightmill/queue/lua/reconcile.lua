-- Set a batch's counts of ended jobs from the rows in the store. Redis may have lost its last second,
-- or everything; the store is right.
-- ARGV[1]  batch
-- ARGV[2]  how many ended jobs Redis counted when the rows were counted; "" to raise only what was spent
-- ARGV[3..] field, value, field, value ...
-- Returns  1; or 0 when more jobs have ended since, or jobs are in Redis: then nothing is changed.
-- What was spent never becomes less: Redis also has estimates of answers that did not report their usage.
local key = BATCH .. ARGV[1]
local SPENT = { input_tokens = true, output_tokens = true, nanodollars = true, unpriced = true, answers = true }
if ARGV[2] ~= '' and redis.call('EXISTS', key) == 1 then
  local ended = 0
  local counted = redis.call('HMGET', key, 'succeeded', 'failed', 'cancelled', 'expired')
  for i = 1, 4 do ended = ended + (tonumber(counted[i]) or 0) end
  if size(ARGV[1]) > 0 or ended ~= tonumber(ARGV[2]) then return 0 end
  redis.call('HDEL', key, 'in_flight', 'retrying', 'snoozed') -- wrong when Redis lost a part of its keys
end
for i = 3, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  local before = SPENT[field] and tonumber(redis.call('HGET', key, field)) or 0
  if not SPENT[field] or not (before >= tonumber(value) and before <= 2 ^ 53) then
    redis.call('HSET', key, field, value)
  end
end
return 1
