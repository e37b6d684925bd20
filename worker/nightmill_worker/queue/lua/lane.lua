-- The part of the limiter that runs with every claim and settlement: a claim takes slots and tokens
-- from a lane, a settlement gives them back. The other part is limiter/law.py: the governor runs it and
-- publishes its orders (window, gates, pause, breaker) here.
-- A lane is a hash: `hot` (JSON, everything below) and `orders` (JSON, the governor's). Times are
-- seconds of Redis TIME. The names inside this JSON are stored, and workers of other versions read
-- them. So they are kept, also where the code uses other words: told (limits that headers reported),
-- told_at (when), most (the largest level reported), mirror (a gate that follows headers), round.
-- tests/scenarios/lane.py does the same in Python with a virtual clock.

local DIMENSIONS = { 'requests', 'input', 'output' }
local GATES = { 'pace', 'requests', 'input', 'output' }
local COUNTERS = { 'sent', 'ok', 'refused', 'unsent', 'failed', 'rejected', 'stop', 'latency',
  'used_input', 'used_output', 'epoch', 'running', 'pause_until', 'cut_at', 'cut_in_flight',
  'refilled_at', 'reserved' }
local LONGEST_PAUSE = 900 -- seconds; then one call tries again, whatever `retry-after` asked for
local FIRST = { ratio = 0.25, output = 200 } -- input tokens a byte, output tokens, before any answer
local QUANTILE = 0.7 -- of a batch's outputs: what a call reserves until its answer is there
local LEAST_WEIGHT = 0.05 -- of an answer in an estimate; the first answers have more
local LARGEST_DECAY = 0.99 -- of the largest need, with every call that asks
local REMEMBERED = 32 -- batches whose estimates a lane keeps

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

-- Output that calls in flight reserved and that is not generated yet. On average, half of an answer is.
local function not_generated(lane)
  local hot = lane.hot
  local share = 1 - 0.5 * math.min(1, hot.output / math.max(1, hot.guessed))
  return lane.orders.reserves and 0 or hot.reserved * share
end

-- Refill the buckets up to now. A clock that went back adds nothing. A new gate starts full.
local function refill(lane, now)
  local hot, opened = lane.hot, {}
  local passed = math.max(0, now - hot.refilled_at)
  hot.refilled_at = now
  for name, gate in pairs(lane.orders.gates) do
    local level = hot.level[name]
    if not hot.opened[name] and not gate.mirror then level = gate.capacity end
    hot.level[name] = math.min(gate.capacity, level + gate.rate * passed)
    opened[name] = true
  end
  hot.opened = opened
end

-- `first` are the orders (JSON) of a lane that has never been used.
local function open_lane(account, model, now, first)
  local key = LANE .. account .. ':' .. model
  local stored = redis.call('HMGET', key, 'hot', 'orders')
  local lane = { key = key, slots = key .. ':slots', model = model, taken_slots = {}, freed_slots = {} }
  lane.hot = stored[1] and cjson.decode(stored[1]) or new_hot()
  lane.orders = cjson.decode(stored[2] or first)
  if not stored[1] then redis.call('SADD', LANES, account .. ':' .. model) end
  refill(lane, now)
  return lane
end

-- Count the calls in flight, and remove those of dead workers. Only claims need the count.
local function count_slots(lane, now)
  local dead = redis.call('ZREMRANGEBYSCORE', lane.slots, '-inf', now * 1000)
  lane.in_flight = redis.call('ZCARD', lane.slots)
  lane.hot.reserved = lane.hot.reserved * lane.in_flight / math.max(1, lane.in_flight + dead)
end

local function save_lane(lane)
  if #lane.taken_slots > 0 then redis.call('ZADD', lane.slots, unpack(lane.taken_slots)) end
  if #lane.freed_slots > 0 then redis.call('ZREM', lane.slots, unpack(lane.freed_slots)) end
  redis.call('HSET', lane.key, 'hot', cjson.encode(lane.hot))
end

-- What a call of `batch` is expected to use, from the answers of the batch, else from those of the
-- lane. Where the endpoint reserves max_tokens, that counts as the output.
local function guess_of(lane, payload, batch)
  local known = lane.hot.costs[batch] or lane.hot
  local output = known.output
  if lane.orders.reserves then
    output = tonumber(string.match(payload, '"max_tokens":(%d+)')) or output
  end
  return { requests = 1, pace = 1, input = #payload * known.ratio, output = output, batch = batch }
end

local function breaker_stops(lane)
  local state = lane.orders.breaker
  if lane.hot.round ~= lane.orders.round then -- the breaker's state changed: forget the old trial
    lane.hot.round, lane.hot.trial, lane.hot.trial_end = lane.orders.round, '', ''
  end
  return state == 'open' or (state == 'half' and lane.hot.trial ~= '')
end

-- The gate that keeps such a call waiting, and for how many ms; nil when none does. A small call also
-- waits until the largest recent call would fit. Otherwise small calls would use up every refill, and
-- a large one would wait for ever.
local function closed_gate(lane, guess, now)
  if breaker_stops(lane) then return 'breaker', 250 end
  local pause = math.min(LONGEST_PAUSE, lane.hot.pause_until - now)
  if pause > 0 then return 'pause', pause * 1000 end
  if lane.in_flight >= lane.orders.window then return 'window', 1000 end
  for _, name in ipairs(GATES) do
    local gate = lane.orders.gates[name]
    if gate then
      local need = math.max(guess[name], LARGEST_DECAY * lane.hot.largest[name])
      lane.hot.largest[name] = need
      local short = math.min(need + gate.reserve, gate.capacity) - lane.hot.level[name]
      if short > 1e-9 then return name, math.min(1000, short / gate.rate * 1000) end
    end
  end
  return nil
end

-- How many jobs to read for this lane at most: those it may grant now, and one more that finds out
-- which gate closes.
local function jobs_to_read(lane)
  local most = lane.orders.window - lane.in_flight
  for _, name in ipairs({ 'pace', 'requests' }) do
    local gate = lane.orders.gates[name]
    if gate then most = math.min(most, math.floor(lane.hot.level[name] - gate.reserve) + 1) end
  end
  return math.max(0, most) + 1
end

-- Take a slot and tokens. Returns the reservation that settle wants back, as JSON: when, the guess, the
-- levels less corrections (mark), and the calls in flight. Python carries it and does not read it.
local function take(lane, guess, token, now, lease_end)
  local hot, mark = lane.hot, {}
  hot.sent = hot.sent + 1
  lane.in_flight = lane.in_flight + 1
  hot.reserved = hot.reserved + guess.output
  lane.taken_slots[#lane.taken_slots + 1] = lease_end
  lane.taken_slots[#lane.taken_slots + 1] = token
  for _, name in ipairs(GATES) do hot.level[name] = hot.level[name] - guess[name] end
  for i, name in ipairs(DIMENSIONS) do mark[i] = hot.level[name] - hot.corrected[name] end
  mark[3] = mark[3] + not_generated(lane)
  if lane.orders.breaker == 'half' then hot.trial = token end
  return cjson.encode({ at = now, guess = guess, mark = mark, in_flight = lane.in_flight })
end

-- Replace what was reserved by what was used.
local function charge(lane, item)
  local hot, guess = lane.hot, item.reservation.guess
  hot.level.input = hot.level.input + guess.input - (item.input or 0)
  hot.level.output = hot.level.output + guess.output - (item.output or 0)
  hot.reserved = math.max(0, hot.reserved - guess.output)
  if item.outcome ~= 'ok' then hot.level.requests = hot.level.requests + 1 end
  if item.outcome == 'unsent' then hot.level.pace = hot.level.pace + 1 end
end

-- When there are too many batches, forget the one whose last answer is the oldest.
local function forget_a_batch(costs)
  local known, oldest = 0, nil
  for batch, cost in pairs(costs) do
    known = known + 1
    if not oldest or cost.at < costs[oldest].at then oldest = batch end
  end
  if known >= REMEMBERED then costs[oldest] = nil end
end

-- Learn what calls of a batch use. Input is a mean per byte. Output is a quantile: an answer above it
-- raises it, an answer below it lowers it.
local function learn_cost(lane, item)
  local costs, batch = lane.hot.costs, item.reservation.guess.batch
  local cost = costs[batch]
  if not cost then
    forget_a_batch(costs)
    cost = { ratio = lane.hot.ratio, output = math.max(1, item.output), answers = 0 }
    costs[batch] = cost
  end
  cost.answers, cost.at = cost.answers + 1, lane.hot.refilled_at
  local weight = math.max(LEAST_WEIGHT, 1 / cost.answers)
  if item.bytes > 0 then cost.ratio = cost.ratio + weight * (item.input / item.bytes - cost.ratio) end
  local change = item.output > cost.output and QUANTILE or QUANTILE - 1
  cost.output = math.max(1, cost.output * (1 + weight * change))
end

-- Learn what calls use: means for the lane, and an estimate for the batch.
local function learn(lane, item)
  local hot = lane.hot
  hot.latency = hot.latency + item.latency_ms / 1000
  hot.used_input = hot.used_input + item.input
  hot.used_output = hot.used_output + item.output
  local weight = math.max(LEAST_WEIGHT, 1 / hot.ok)
  if item.bytes > 0 then hot.ratio = hot.ratio + weight * (item.input / item.bytes - hot.ratio) end
  hot.output = hot.output + weight * (item.output - hot.output)
  hot.guessed = hot.guessed + weight * (item.reservation.guess.output - hot.guessed)
  learn_cost(lane, item)
  if item.reservation.at >= hot.cut_at then hot.running = 0 end
end

-- Correct the lane's level by what a header reports of the endpoint's bucket. The endpoint wrote the
-- header at some moment between the claim and the answer. A level that the lane had at any moment
-- between them explains it. Only what no such level explains is an error. Half of an error is
-- corrected, all of it when this is the first header.
local function follow_header(lane, item, i, name, limit, remaining)
  local hot, old, gate = lane.hot, lane.hot.told[name], lane.orders.gates[name]
  local newer = not old or item.reservation.at >= (hot.told_at[name] or 0)
  if newer then hot.told_at[name] = item.reservation.at end
  local most = old and not (newer and old.limit ~= limit) and old.most or remaining + 1
  local before, here = item.reservation.mark[i] + hot.corrected[name], hot.level[name]
  if name == 'output' then here = here + not_generated(lane) end
  local low, high = math.min(before, here), math.max(before, here)
  local wrong = math.min(0, remaining - low) + math.max(0, remaining - high)
  if wrong > 0 and gate and not gate.mirror then wrong = 0 end -- the fleet fills this bucket itself
  if old then wrong = 0.5 * wrong end
  hot.level[name] = hot.level[name] + wrong
  hot.corrected[name] = hot.corrected[name] + wrong
  hot.told[name] = {
    limit = newer and limit or old.limit,
    most = math.max(most, remaining + item.reservation.guess[name]),
    corrected = hot.corrected[name],
  }
end

local function follow_headers(lane, item)
  for i, name in ipairs(DIMENSIONS) do
    local reported = item.reported and item.reported[name]
    if reported then follow_header(lane, item, i, name, reported[1], reported[2]) end
  end
end

-- Pause the fleet after a 429. Only a call that was sent after the last refusal begins a new epoch.
local function refuse(lane, item, now)
  local hot = lane.hot
  if item.reservation.at >= hot.cut_at then
    hot.epoch, hot.running, hot.cut_at = hot.epoch + 1, hot.running + 1, now
    hot.cut_in_flight, hot.cut_gate = item.reservation.in_flight, item.gate or ''
    for _, name in ipairs(DIMENSIONS) do
      local reported = item.reported and item.reported[name]
      if reported and reported[2] <= 0.01 * reported[1] and not item.gate then hot.cut_gate = name end
    end
    for name, gate in pairs(lane.orders.gates) do
      if not gate.mirror then -- the endpoint's bucket is empty, so the fleet's own is empty too
        hot.level[name] = math.min(hot.level[name], -0.5 * item.reservation.guess[name])
      end
    end
  end
  local pause = math.min(4, lane.orders.pause * 2 ^ math.max(0, hot.running - 1))
  pause = math.max(pause, (item.retry_after_ms or 0) / 1000)
  hot.pause_until = math.max(hot.pause_until, now + math.min(LONGEST_PAUSE, pause))
end

-- Account for one answer; settle.lua describes the item.
local function settle(lane, item, now)
  local hot = lane.hot
  hot[item.outcome] = hot[item.outcome] + 1
  lane.freed_slots[#lane.freed_slots + 1] = item.token
  charge(lane, item)
  follow_headers(lane, item)
  if item.outcome == 'ok' then learn(lane, item) end
  if item.outcome == 'refused' then refuse(lane, item, now) end
  if item.token == hot.trial then
    hot.trial_end = item.outcome == 'failed' and 'failed' or 'ok'
    if item.outcome == 'unsent' then hot.trial, hot.trial_end = '', '' end
  end
end
