-- Read the requests of jobs that have not ended.
-- ARGV     ids of jobs
-- Returns  for each, in order: {its payload, or the one that replaces it when its call has ended (see
--          replace.lua), "" when it is not in Redis; 1 while it is in flight, else 0}.
local found = {}
for i, id in ipairs(ARGV) do
  local payload = redis.call('GET', PAYLOAD .. id)
  local record = payload and redis.call('HMGET', RECORD .. id, 'state', 'next') or {}
  found[i] = { record[2] or payload or '', record[1] == 'in_flight' and 1 or 0 }
end
return found
