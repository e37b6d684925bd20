-- Write the orders of an account's lanes; called by the account's governor, for many lanes a call.
-- ARGV[1]  the account
-- ARGV[2]  the worker that asks; one that has lost the governor's lock meanwhile writes nothing
-- ARGV[3..] for each lane: its name, `kept`, `orders` (both JSON), and how much of its limit was used
--          (JSON: batch -> [metered_ms, used_ms])
if redis.call('GET', GOVERNOR .. ARGV[1]) ~= ARGV[2] then return end
local function add_use(batch, spent)
  redis.call('HINCRBY', BATCH .. batch, 'metered_ms', spent[1])
  redis.call('HINCRBY', BATCH .. batch, 'used_ms', spent[2])
end
for i = 3, #ARGV, 4 do
  guarded(redis.call, 'HSET', LANE .. ARGV[i], 'kept', ARGV[i + 1], 'orders', ARGV[i + 2])
  for batch, spent in pairs(cjson.decode(ARGV[i + 3])) do guarded(add_use, batch, spent) end
end
