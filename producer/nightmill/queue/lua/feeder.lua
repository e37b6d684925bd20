-- Take, keep or leave the place of a batch's one feeder.
-- ARGV[1]  batch
-- ARGV[2]  who asks
-- ARGV[3]  a holder known to be dead, whose place may be taken ("" for none)
-- ARGV[4]  how long the place is kept without a renewal, ms; 0 leaves it
-- Returns  who holds it now.
local key = FEEDER .. ARGV[1]
local holder = redis.call('GET', key)
if holder and holder ~= ARGV[2] and holder ~= ARGV[3] then return holder end
if ARGV[4] == '0' then
  redis.call('DEL', key)
else
  redis.call('SET', key, ARGV[2], 'PX', ARGV[4])
end
return ARGV[2]
