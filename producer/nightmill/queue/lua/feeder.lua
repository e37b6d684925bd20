-- Take, renew or release the feeder lock of a batch.
-- ARGV[1]  batch
-- ARGV[2]  name of the calling process
-- ARGV[3]  name of a holder that is known to be dead: its lock may be taken; "" for none
-- ARGV[4]  how long the lock lasts without a renewal, ms; 0 releases it
-- Returns  the name of the process that holds the lock now; after a release, the caller's.
local key = FEEDER .. ARGV[1]
local holder = redis.call('GET', key)
if holder and holder ~= ARGV[2] and holder ~= ARGV[3] then return holder end
if ARGV[4] == '0' then
  redis.call('DEL', key)
else
  redis.call('SET', key, ARGV[2], 'PX', ARGV[4])
end
return ARGV[2]
