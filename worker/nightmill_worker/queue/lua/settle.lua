-- Account for answers, many a call: free the slots, charge what was really used, follow the headers,
-- count outcomes for the law, pause the fleet after a 429, and stop the account or hold the lane when
-- calls cannot succeed (see account.lua).
-- ARGV[1]  JSON: account, items [{token, model, lane? (where it is not named as the model), reservation (as claim gave it), outcome, latency_ms,
--          bytes (of the payload), input, output (tokens), reported? {dimension: [limit a minute,
--          remaining]}, gate? (what a 429 names), retry_after_ms?, reason?; of a suspect: job, kind,
--          own? (the refusal may well concern the job alone)}]
--          outcome: ok | refused (429) | failed (5xx, broken off) | rejected (the job's own fault) |
--          stop (the account's fault) | suspect (the fault of the account, the model or the job) |
--          unsent (no call was made) | begun (its answer begins: only the headers are followed)
-- ARGV[2]  JSON: the orders of a lane that has never been used
-- Each item stands alone: one that cannot be accounted for is logged and counted (`unsettled` in the
-- lane's `hot`), and its slot is freed.
-- Returns  1 when this call stopped the account, else 0.
local ask = cjson.decode(ARGV[1])
local now = now_ms()
local account = open_account(ask.account)
local before = account.fields.state
local lanes, lane_names = {}, {}
for _, item in ipairs(ask.items) do lane_names[item.model or ''] = item.lane or item.model end

-- What weigh.lua asks of a model, or of a lane.
local function facts(model)
  local name = lane_names[model] or model
  local hot = lanes[name] and lanes[name].hot or decoded(redis.call('HGET', LANE .. ask.account .. ':' .. name, 'hot'))
  hot = hot or NONE
  if name ~= model then hot = type(hot.models) == 'table' and hot.models[model] or NONE end
  local function ms(seconds) return math.floor(1000 * bounded(seconds, 0, EXACT / 1000, 0) + 0.5) end
  return { ok_at = ms(hot.ok_at), ok_end = ms(hot.ok_end), calls = bounded(hot.sent, 0, EXACT, 0) }
end

local function account_for(item)
  local model, outcome = item.model, item.outcome
  if outcome ~= 'begun' then guarded(weigh, account, item, now, facts) end
  if outcome == 'suspect' then -- for the law, a refusal by a limit or an answer about the job
    item.outcome = string.sub(tostring(item.kind), 1, 3) == '429' and 'refused' or 'rejected'
  end
  local name = item.lane or model
  lanes[name] = lanes[name] or open_lane(ask.account, name, now / 1000, ARGV[2])
  settle(lanes[name], item, now / 1000)
end

-- Suspects come last: what else succeeded says what their refusals concern.
local suspects = {}
for _, item in ipairs(ask.items) do
  if item.outcome == 'suspect' then suspects[#suspects + 1] = item end
end
for turn = 1, #suspects > 0 and 2 or 1 do
  for _, item in ipairs(turn == 1 and ask.items or suspects) do
    if turn == 2 or item.outcome ~= 'suspect' then
      local lane = not guarded(account_for, item) and lanes[item.lane or item.model]
      if lane then lane.hot.unsettled = bounded(lane.hot.unsettled, 0, LARGEST, 0) + 1 end
    end
  end
end
for _, lane in pairs(lanes) do guarded(save_lane, lane) end
guarded(save_holds, account)
return account.fields.state == 'stopped' and before ~= 'stopped' and 1 or 0
