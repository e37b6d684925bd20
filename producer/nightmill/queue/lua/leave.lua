-- A request of a key was answered: another one may come.
-- ARGV[1]  id of the key
-- ARGV[2]  id of the request
-- ARGV[3]  how long it lasted, ms
-- Returns  nil
local key = REQUESTS .. ARGV[1]
redis.call('ZREM', key .. ':open', ARGV[2])
local mean, lasted = tonumber(redis.call('HGET', key, 'mean_ms')), tonumber(ARGV[3])
if mean and mean >= 0 and mean < 1e15 then lasted = mean + 0.2 * (lasted - mean) end
redis.call('HSET', key, 'mean_ms', string.format('%.0f', lasted))
redis.call('PEXPIRE', key, REQUESTS_TTL_MS)
return nil
