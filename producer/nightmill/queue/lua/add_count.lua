-- Add to a count of a hash. A value that is not a number, which another program wrote, counts as 0.
local function add_count(hash, field, amount)
  local before = tonumber(redis.call('HGET', hash, field)) or 0
  if not (math.abs(before) < 2 ^ 53) then before = 0 end
  redis.call('HSET', hash, field, string.format('%.0f', before + amount))
end
