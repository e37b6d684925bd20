-- Read the counts of batches, all at one moment.
-- ARGV     names of batches ("" = the single jobs)
-- Returns  for each, in order: {jobs in its queues, 1 while a feeder holds it else 0, its hash}.
local found = {}
for i, batch in ipairs(ARGV) do
  local feeding = redis.call('EXISTS', FEEDER .. batch)
  found[i] = { size(batch), feeding, redis.call('HGETALL', BATCH .. batch) }
end
return found
