-- Set a batch's counts of ended jobs from the rows in the store. Redis may have lost its last second,
-- or everything; the store is right.
-- ARGV[1]  batch
-- ARGV[2]  how many ended jobs Redis counted when the rows were counted
-- ARGV[3..] field, value, field, value ...
-- Returns  1; or 0 when more jobs have ended since, or jobs are in Redis: then nothing is changed.
local key = BATCH .. ARGV[1]
if redis.call('EXISTS', key) == 1 then
  local ended = 0
  local counted = redis.call('HMGET', key, 'succeeded', 'failed', 'cancelled', 'expired')
  for i = 1, 4 do ended = ended + (tonumber(counted[i]) or 0) end
  if size(ARGV[1]) > 0 or ended ~= tonumber(ARGV[2]) then return 0 end
end
redis.call('HSET', key, unpack(ARGV, 3))
return 1
