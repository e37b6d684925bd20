-- Let a stopped account, and its stopped lanes, send one job each as a trial. The answers decide: see
-- account.lua of the workers.
-- ARGV[1]  the account
-- Returns  {1 when the account was stopped else 0, how many of its lanes were stopped}.
local key, held = ACCOUNT .. ARGV[1], HELD .. ARGV[1]
local stopped, lanes = 0, 0
if redis.call('HGET', key, 'state') == 'stopped' then
  stopped = 1
  redis.call('HSET', key, 'state', 'trial')
end
local flat = redis.call('HGETALL', held)
for i = 1, #flat, 2 do
  local ok, hold = pcall(cjson.decode, flat[i + 1])
  if ok and type(hold) == 'table' and hold.state == 'stopped' then
    lanes = lanes + 1
    hold.state, hold.fresh = 'held', 0
    hold.rounds = 1000 -- one more refused trial stops the lane again
    redis.call('HSET', held, flat[i], cjson.encode(hold))
  end
end
return { stopped, lanes }
