-- A lane's stored state: what it holds, and whether the scripts can work with it.
-- A lane is a hash: `hot` (JSON, the scripts' part), `orders` and `kept` (JSON, the governor's). The names
-- inside this JSON are stored, and workers of other versions read them. So they are kept, also where the
-- code uses other words: told (limits that headers reported), told_at (when), most (the largest level
-- reported), mirror (a gate that follows headers), round.

local DIMENSIONS = { 'requests', 'input', 'output' }
local GATES = { 'pace', 'requests', 'input', 'output' }
local IS_GATE = { pace = true, requests = true, input = true, output = true }
local COUNTERS = { 'sent', 'ok', 'refused', 'unsent', 'failed', 'rejected', 'stop', 'latency',
  'used_input', 'used_output', 'epoch', 'running', 'pause_until', 'cut_at', 'cut_in_flight',
  'refilled_at', 'reserved', 'sent_at', 'first_sent', 'first_ended' }
local MEANS = { 'ratio', 'output', 'guessed' }
local TABLES = { 'told', 'told_at', 'opened', 'costs' }
local BOUND = { 'window', 'pause', 'breaker', 'pace', 'requests', 'input', 'output' }
local REPORT = { 'limit', 'most', 'corrected' }
local MODEL_COUNTS = { 'sent', 'ok_at', 'ok_end' }
local MOST_MODELS = 64 -- of a lane that several models share
local ESTIMATE = { 'ratio', 'output' }
local COST = { 'ratio', 'output', 'answers', 'at' }
local ORDERS, GATE = { 'window', 'pause' }, { 'rate', 'capacity', 'reserve' }
local LARGEST = 1e15 -- of any stored number
local FIRST = { ratio = 0.25, output = 200 } -- input tokens a byte, output tokens, before any answer

-- Whether these fields are all numbers of a size that can be worked with (and no NaN).
local function finite(of, names)
  if type(of) ~= 'table' then return false end
  for i = 1, #names do
    local number = of[names[i]]
    if type(number) ~= 'number' or not (number > -LARGEST and number < LARGEST) then return false end
  end
  return true
end

local function new_hot()
  local hot = { level = {}, corrected = {}, told = {}, told_at = {}, bound = {}, opened = {},
    largest = {},
    cut_gate = '', trial = '', trial_end = '', round = 0, ratio = FIRST.ratio, output = FIRST.output,
    guessed = FIRST.output, costs = {} }
  for _, name in ipairs(COUNTERS) do hot[name] = 0 end
  for _, name in ipairs(GATES) do hot.level[name], hot.bound[name], hot.largest[name] = 0, 0, 0 end
  for _, name in ipairs(DIMENSIONS) do hot.corrected[name] = 0 end
  for _, name in ipairs({ 'window', 'pause', 'breaker' }) do hot.bound[name] = 0 end
  return hot
end

-- Whether the scripts can work with a stored state.
local function is_sound(hot)
  if not (hot and finite(hot, COUNTERS) and finite(hot, MEANS) and finite(hot.level, GATES)
    and finite(hot.largest, GATES) and finite(hot.corrected, DIMENSIONS) and finite(hot.bound, BOUND)) then
    return false
  end
  for i = 1, #TABLES do
    if type(hot[TABLES[i]]) ~= 'table' then return false end
  end
  for i = 1, #DIMENSIONS do
    local told, told_at = hot.told[DIMENSIONS[i]], hot.told_at[DIMENSIONS[i]]
    if told ~= nil and not (finite(told, REPORT) and told.limit > 0) then return false end
    if told_at ~= nil and type(told_at) ~= 'number' then return false end
  end
  return true
end

-- Keep what is sound of a stored state. The rest is as in `first`, a new lane's state.
local function repaired(first, stored)
  for name, value in pairs(first) do
    local found = stored[name]
    if type(value) == 'table' then
      if type(found) == 'table' then repaired(value, found) end
    elseif type(found) == type(value) and (type(found) ~= 'number' or finite(stored, { name })) then
      first[name] = found
    end
  end
  return first
end

local function are_sound(orders)
  if not (finite(orders, ORDERS) and type(orders.gates) == 'table') then return false end
  for name, gate in pairs(orders.gates) do
    if not (finite(gate, GATE) and gate.rate > 0 and IS_GATE[name]) then return false end
  end
  return true
end

-- What is known of one model in a lane that several models share: a success of another model says
-- nothing about its jobs.
local function counts_of(lane, model)
  local models = lane.hot.models
  if type(models) ~= 'table' then models = {} end
  if not finite(models[model], MODEL_COUNTS) then
    local known = 0
    for _ in pairs(models) do known = known + 1 end
    if known >= MOST_MODELS then models = {} end
    models[model] = { sent = 0, ok_at = 0, ok_end = 0 }
  end
  lane.hot.models = models
  return models[model]
end
