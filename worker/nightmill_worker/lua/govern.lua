-- Take or keep the place of a line's governor.
-- KEYS[1]  the line's lock
-- ARGV[1]  who asks
-- ARGV[2]  how long the place is kept without being asked again, ms
-- Returns  all lanes there are, or false while another has the place.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return false end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return redis.call('SMEMBERS', LANES)
