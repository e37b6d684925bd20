-- Count the jobs in all queues, those in flight too.
-- Returns  how many there are
local jobs = redis.call('ZCARD', QUEUE)
for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do jobs = jobs + redis.call('ZCARD', queue) end
return jobs
