-- Account for answers, many a call: free the slots, charge what was really used, count outcomes
-- for the law, start the fleet-wide pause on a 429, stop the line where nobody can be served.
-- ARGV[1]  JSON: line, items [{token, model, outcome, claimed_at, latency_ms, bytes, input,
--          output, guessed_input, guessed_output, retry_after_ms?, reason?}]
--          outcome: ok | refused (429) | failed (5xx, broken) | rejected (the job's own fault) |
--          stop (the line's fault) | unsent (no call was made)
-- Returns  1 when this call stopped the line, else 0.
local told = cjson.decode(ARGV[1])
local now = now_ms()
local line_key = LINE .. told.line
local stopped = 0

local lanes = {}
local function lane_of(model)
  if not lanes[model] then
    local key = LANE .. told.line .. ':' .. model
    lanes[model] = { key = key, fields = hash(key), gone = {}, sums = {}, set = {} }
  end
  return lanes[model]
end

local function count(lane, name, amount)
  lane.sums[name] = (lane.sums[name] or 0) + amount
end

-- The estimate was reserved at claim: give back what it was too high, take what it was too low.
local function charge(lane, item)
  local input, output = item.input or 0, item.output or 0
  if item.outcome == 'unsent' and lane.fields.requests then count(lane, 'requests', 1) end
  for name, change in pairs({
    input = item.guessed_input - input,
    output_tokens = item.guessed_output - output,
  }) do
    if lane.fields[name] then count(lane, name, change) end
  end
end

-- What calls of this lane really cost, for the next estimates: input per payload byte, output.
local function learn(lane, item)
  if item.outcome ~= 'ok' or item.bytes == 0 then return end
  local function toward(name, value)
    local old = tonumber(lane.set[name] or lane.fields[name])
    lane.set[name] = tostring(old and old + 0.05 * (value - old) or value)
  end
  toward('ratio', item.input / item.bytes)
  toward('output', item.output)
end

-- One pause and one cut an epoch: calls sent before the last refusal say nothing new.
local function refuse(lane, item)
  local cut_at = tonumber(lane.set.cut_at or lane.fields.cut_at) or 0
  local running = tonumber(lane.set.refusals_running or lane.fields.refusals_running) or 0
  if item.claimed_at >= cut_at then
    running = running + 1
    lane.set.cut_at = now
    lane.set.refusals_running = running
    count(lane, 'epoch', 1)
  end
  local pause = math.min(4000, 250 * 2 ^ math.max(0, running - 1))
  pause = math.max(pause, item.retry_after_ms or 0)
  local pause_until = tonumber(lane.set.pause_until or lane.fields.pause_until) or 0
  lane.set.pause_until = math.max(pause_until, now + pause)
end

local function stop_line(item)
  if redis.call('HGET', line_key, 'state') ~= 'stopped' then stopped = 1 end
  redis.call('HSET', line_key, 'state', 'stopped', 'reason', item.reason, 'stopped_at', now)
end

for _, item in ipairs(told.items) do
  local lane = lane_of(item.model)
  lane.gone[#lane.gone + 1] = item.token
  charge(lane, item)
  learn(lane, item)
  count(lane, item.outcome, 1)
  count(lane, 'latency_ms', item.latency_ms)
  if item.outcome == 'refused' then refuse(lane, item) end
  if item.outcome == 'ok' then lane.set.refusals_running = 0 end
  if item.outcome == 'stop' then
    stop_line(item)
  elseif item.outcome ~= 'unsent' and redis.call('HGET', line_key, 'state') == 'trying' then
    redis.call('DEL', line_key)
  end
end

for _, lane in pairs(lanes) do
  redis.call('ZREM', lane.key .. ':slots', unpack(lane.gone))
  for name, amount in pairs(lane.sums) do redis.call('HINCRBYFLOAT', lane.key, name, amount) end
  local flat = {}
  for name, value in pairs(lane.set) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  if #flat > 0 then redis.call('HSET', lane.key, unpack(flat)) end
end
return stopped
