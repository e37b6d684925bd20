-- Shared by the batch scripts: the number of jobs in all queues of a batch ("" = the single jobs).
-- A job stays in its queue while it is in flight, so this counts every job that has not ended.
local function size(batch)
  local jobs = batch == SINGLES and redis.call('ZCARD', QUEUE) or 0
  for _, queue in ipairs(redis.call('SMEMBERS', QUEUES_OF .. batch)) do
    jobs = jobs + redis.call('ZCARD', queue)
  end
  return jobs
end
