-- Ask that jobs which have not started be cancelled, as arq's abort() does: their claims make no call.
-- ARGV     ids of jobs
-- Returns  how many were asked for; a job in flight goes on
local asked, time = 0, redis.call('TIME')
for _, id in ipairs(ARGV) do
  if redis.call('EXISTS', PAYLOAD .. id) == 1 and redis.call('EXISTS', IN_PROGRESS .. id) == 0 then
    redis.call('ZADD', ABORTS, time[1] * 1000 + math.floor(time[2] / 1000), id)
    asked = asked + 1
  end
end
return asked
