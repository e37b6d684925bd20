-- Write what the lanes of a line go by from now on; called by the line's governor, many lanes a call.
-- ARGV[1]  the line
-- ARGV[2]  who asks: one who has lost the place meanwhile writes nothing
-- ARGV[3..] for each lane: its name, `kept`, `orders` (JSON), and the batches' share in what it used
--          (JSON: batch -> [metered_ms, used_ms])
if redis.call('GET', GOVERNOR .. ARGV[1]) ~= ARGV[2] then return end
for i = 3, #ARGV, 4 do
  redis.call('HSET', LANE .. ARGV[i], 'kept', ARGV[i + 1], 'orders', ARGV[i + 2])
  for batch, spent in pairs(cjson.decode(ARGV[i + 3])) do
    redis.call('HINCRBY', BATCH .. batch, 'metered_ms', spent[1])
    redis.call('HINCRBY', BATCH .. batch, 'used_ms', spent[2])
  end
end
