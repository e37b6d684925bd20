-- Set a batch's counts of ended jobs to what the store has: its rows are the truth, and Redis may
-- have lost its last second, or everything.
-- ARGV[1]  batch
-- ARGV[2]  how many ended jobs Redis counted when the store was asked
-- ARGV[3..] field, value, field, value ...
-- Returns  1, or 0 when jobs moved meanwhile or are still on their way; nothing is changed then.
local key = BATCH .. ARGV[1]
if redis.call('EXISTS', key) == 1 then
  local ended = 0
  local counted = redis.call('HMGET', key, 'succeeded', 'failed', 'cancelled', 'expired')
  for i = 1, 4 do ended = ended + (tonumber(counted[i]) or 0) end
  if size(ARGV[1]) > 0 or ended ~= tonumber(ARGV[2]) then return 0 end
end
redis.call('HSET', key, unpack(ARGV, 3))
return 1
