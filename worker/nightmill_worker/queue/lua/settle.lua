-- Account for answers, many a call: free the slots, charge what was really used, follow the headers,
-- count outcomes for the law, pause the fleet after a 429, and stop the account when no call with its
-- credential can succeed.
-- ARGV[1]  JSON: account, items [{token, model, reservation (as claim gave it), outcome, latency_ms,
--          bytes (of the payload), input, output (tokens), reported? {dimension: [limit a minute,
--          remaining]}, gate? (what a 429 names), retry_after_ms?, reason?}]
--          outcome: ok | refused (429) | failed (5xx, broken off) | rejected (the job's own fault) |
--          stop (the account's fault) | unsent (no call was made)
-- ARGV[2]  JSON: the orders of a lane that has never been used
-- Each item stands alone: one that cannot be accounted for is logged and counted (`unsettled` in the
-- lane's `hot`), and its slot is freed.
-- Returns  1 when this call stopped the account, else 0.
local ask = cjson.decode(ARGV[1])
local now = now_ms() / 1000
local account_key = ACCOUNT .. ask.account
local state = redis.call('HGET', account_key, 'state')
local lanes, stopped = {}, 0

local function stop_account(item)
  if state ~= 'stopped' then stopped = 1 end
  state = 'stopped'
  local reason = type(item.reason) == 'string' and item.reason or ''
  redis.call('HSET', account_key, 'state', 'stopped', 'reason', reason, 'stopped_at', now * 1000)
end

local function account_for(item)
  if item.outcome == 'stop' then
    stop_account(item)
  elseif item.outcome ~= 'unsent' and state == 'trying' then
    redis.call('DEL', account_key)
    state = nil
  end
  lanes[item.model] = lanes[item.model] or open_lane(ask.account, item.model, now, ARGV[2])
  settle(lanes[item.model], item, now)
end

for _, item in ipairs(ask.items) do
  local lane = not guarded(account_for, item) and lanes[item.model]
  if lane then lane.hot.unsettled = bounded(lane.hot.unsettled, 0, LARGEST, 0) + 1 end
end
for _, lane in pairs(lanes) do guarded(save_lane, lane) end
return stopped
