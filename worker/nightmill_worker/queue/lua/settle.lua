-- Account for answers, many a call: free the slots, charge what was really used, hear the headers,
-- count outcomes for the law, start the fleet-wide pause on a 429, stop the line where nobody can
-- be served.
-- ARGV[1]  JSON: account, items [{token, model, reservation, outcome, latency_ms, bytes, input, output,
--          told? {dimension: [limit, remaining]}, gate? (what a 429 names), retry_after_ms?, reason?}]
--          outcome: ok | refused (429) | failed (5xx, broken) | rejected (the job's own fault) |
--          stop (the line's fault) | unsent (no call was made)
-- ARGV[2]  JSON: the orders of a lane that no governor has seen
-- Returns  1 when this call stopped the line, else 0.
local told = cjson.decode(ARGV[1])
local now = now_ms() / 1000
local account_key = ACCOUNT .. told.account
local state = redis.call('HGET', account_key, 'state')
local lanes, stopped = {}, 0

local function stop_line(item)
  if state ~= 'stopped' then stopped = 1 end
  state = 'stopped'
  redis.call('HSET', account_key, 'state', 'stopped', 'reason', item.reason, 'stopped_at', now * 1000)
end

for _, item in ipairs(told.items) do
  lanes[item.model] = lanes[item.model] or open_lane(told.account, item.model, now, ARGV[2])
  account(lanes[item.model], item, now)
  if item.outcome == 'stop' then
    stop_line(item)
  elseif item.outcome ~= 'unsent' and state == 'trying' then
    redis.call('DEL', account_key)
    state = nil
  end
end
for _, lane in pairs(lanes) do save_lane(lane) end
return stopped
