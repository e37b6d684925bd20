-- The part of the limiter that runs with every claim and settlement: a claim takes slots and tokens from a lane,
-- a settlement gives them back. limiter/law.py is the other part: its orders come from there. Times are seconds of
-- Redis TIME. lane_state.lua explains the stored names. tests/scenarios/lane.py does this with a virtual clock.

local NONE = {}
local OUTCOMES = { ok = true, refused = true, failed = true, rejected = true, stop = true, unsent = true,
  begun = true }
local LONGEST_PAUSE = 900 -- seconds; then one call tries again, whatever `retry-after` asked for
local LONGEST_CALL = 600 -- seconds, when Redis's clock went back during the call
local LARGEST_CALL = 2e6 -- tokens of one call
local LARGEST_LIMIT = 1e12 -- units a minute, and units remaining, that a header may report
local QUANTILE = 0.7 -- of a batch's outputs: what a call reserves until its answer is there
local LEAST_WEIGHT = 0.05 -- of an answer in an estimate; the first answers have more
local LARGEST_DECAY = 0.99 -- of the largest need, with every call that asks
local REMEMBERED = 32 -- batches whose estimates a lane keeps
local FIRST_CALLS = 16 -- of a lane that opens: their ends show that calls of all lengths are answered
local IDLE = 60 -- seconds without a call; then a lane opens again

-- Output that calls in flight reserved and that is not generated yet. On average, half of an answer is.
local function not_generated(lane)
  local hot = lane.hot
  local share = 1 - 0.5 * min(1, hot.output / max(1, hot.guessed))
  return lane.orders.reserves and 0 or hot.reserved * share
end

-- Redis's clock went back. Move the moments that were stored before back too: a pause of a second must
-- not last until the clock has caught up.
local function move_back(lane, seconds)
  local hot = lane.hot
  hot.pause_until, hot.cut_at = hot.pause_until - seconds, hot.cut_at - seconds
  hot.sent_at = hot.sent_at - seconds
  hot.ok_at, hot.ok_end = bounded(hot.ok_at, 0, LARGEST, 0) - seconds, bounded(hot.ok_end, 0, LARGEST, 0) - seconds
  hot.models = nil
  for _, name in ipairs(DIMENSIONS) do
    if hot.told_at[name] then hot.told_at[name] = hot.told_at[name] - seconds end
  end
  for batch, cost in pairs(hot.costs) do
    if finite(cost, COST) then cost.at = cost.at - seconds else hot.costs[batch] = nil end
  end
  local slots = redis.call('ZRANGE', lane.slots, 0, -1, 'WITHSCORES')
  for i = 1, #slots, 2 do redis.call('ZADD', lane.slots, 'XX', slots[i + 1] - 1000 * seconds, slots[i]) end
end

-- Refill the buckets up to now. A clock that went back adds nothing. A new gate starts full, but the pace
-- with one call: the first calls of a lane are spaced, too. A bucket is never so far below 0 that no call
-- goes for longer than LONGEST_PAUSE.
local function refill(lane, now)
  local hot, opened = lane.hot, {}
  local passed = now - hot.refilled_at
  if passed < 0 then
    move_back(lane, -passed)
    passed = 0
  end
  hot.refilled_at = now
  for name, gate in pairs(lane.orders.gates) do
    local level = hot.level[name]
    if hot.opened[name] or gate.mirror then
      level = min(gate.capacity, level + gate.rate * passed)
    else
      level = name == 'pace' and 1 or gate.capacity
    end
    hot.level[name] = max(level, -LONGEST_PAUSE * gate.rate)
    opened[name] = true
  end
  hot.opened = opened
end

-- `first`: the orders (JSON) of a lane that has never been used. A stored state that is damaged is repaired.
local function open_lane(account, name, now, first)
  local key = LANE .. account .. ':' .. name
  local stored = redis.call('HMGET', key, 'hot', 'orders')
  local lane = { key = key, slots = key .. ':slots', name = name, model = name, taken_slots = {}, freed_slots = {} }
  lane.hot, lane.orders = decoded(stored[1]), decoded(stored[2])
  if not is_sound(lane.hot) then lane.hot = repaired(new_hot(), lane.hot or {}) end
  if not are_sound(lane.orders) then lane.orders = cjson.decode(first) end
  if not stored[1] then redis.call('SADD', LANES, account .. ':' .. name) end
  refill(lane, now)
  return lane
end

-- Count the calls in flight, and remove those of dead workers. Only claims need the count.
local function count_slots(lane, now)
  local dead = redis.call('ZREMRANGEBYSCORE', lane.slots, '-inf', now * 1000)
  lane.in_flight = redis.call('ZCARD', lane.slots)
  lane.hot.reserved = lane.hot.reserved * lane.in_flight / max(1, lane.in_flight + dead)
end

local function save_lane(lane)
  if #lane.taken_slots > 0 then redis.call('ZADD', lane.slots, unpack(lane.taken_slots)) end
  if #lane.freed_slots > 0 then redis.call('ZREM', lane.slots, unpack(lane.freed_slots)) end
  for _, token in ipairs(lane.freed_slots) do -- clients wait for few of them
    if string.sub(token, -2) == ':c' then redis.call('ZREM', lane.key .. ':clients', token) end
  end
  local ok, hot = pcall(cjson.encode, lane.hot)
  redis.call('HSET', lane.key, 'hot', ok and hot or cjson.encode(new_hot()))
end

-- What a call of `batch` is expected to use, from the answers of the batch, else from those of the lane.
-- Where the endpoint reserves max_tokens, that counts as the output.
local function guess_of(lane, payload, batch)
  local known = lane.hot.costs[batch]
  if not known or not finite(known, ESTIMATE) then known = lane.hot end
  local input, output = min(LARGEST_CALL, #payload * known.ratio), known.output
  if lane.orders.reserves then
    output = bounded(string.match(payload, '"max_tokens":(%d+)'), 0, LARGEST_CALL, output)
  end
  return { requests = 1, pace = 1, input = input, output = output, batch = batch }
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
  local pause = min(LONGEST_PAUSE, lane.hot.pause_until - now)
  if pause > 0 then return 'pause', pause * 1000 end
  if lane.in_flight >= lane.orders.window then return 'window', 1000 end
  local gates, largest = lane.orders.gates, lane.hot.largest
  for i = 1, #GATES do
    local name = GATES[i]
    local gate = gates[name]
    if gate then
      local need = max(guess[name], LARGEST_DECAY * largest[name])
      largest[name] = need
      local short = min(need + gate.reserve, gate.capacity) - lane.hot.level[name]
      if short > 1e-9 then return name, min(1000, short / gate.rate * 1000) end
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
    if gate then most = min(most, math.floor(lane.hot.level[name] - gate.reserve) + 1) end
  end
  return max(0, most) + 1
end

-- Take a slot and tokens. Returns the reservation that settle wants back, as JSON: when, the guess, the
-- levels less corrections (mark), and the calls in flight. Python carries it and does not read it.
local function take(lane, guess, token, now, lease_end)
  local hot, mark, first = lane.hot, {}, nil
  if lane.in_flight == 0 and now - hot.sent_at > IDLE then hot.first_sent, hot.first_ended = 0, 0 end
  hot.sent, hot.sent_at = hot.sent + 1, now
  if lane.model ~= lane.name then
    lane.counts = lane.counts or counts_of(lane, lane.model)
    lane.counts.sent = lane.counts.sent + 1
  end
  if hot.first_sent < FIRST_CALLS then hot.first_sent, first = hot.first_sent + 1, true end
  lane.in_flight = lane.in_flight + 1
  hot.reserved = hot.reserved + guess.output
  lane.taken_slots[#lane.taken_slots + 1] = lease_end
  lane.taken_slots[#lane.taken_slots + 1] = token
  local level, corrected = hot.level, hot.corrected
  for i = 1, #GATES do level[GATES[i]] = level[GATES[i]] - guess[GATES[i]] end
  for i = 1, #DIMENSIONS do mark[i] = level[DIMENSIONS[i]] - corrected[DIMENSIONS[i]] end
  mark[3] = mark[3] + not_generated(lane)
  if lane.orders.breaker == 'half' then hot.trial = token end
  return cjson.encode({ at = now, guess = guess, mark = mark, in_flight = lane.in_flight, first = first })
end

-- Replace what was reserved by what was used.
local function charge(lane, item)
  local hot, guess = lane.hot, item.reservation.guess
  hot.level.input = hot.level.input + guess.input - item.input
  hot.level.output = hot.level.output + guess.output - item.output
  hot.reserved = max(0, hot.reserved - guess.output)
  if item.outcome ~= 'ok' then hot.level.requests = hot.level.requests + 1 end
  if item.outcome == 'unsent' then hot.level.pace = hot.level.pace + 1 end
end

-- When there are too many batches, forget the one whose last answer is the oldest.
local function forget_a_batch(costs)
  local known, oldest = 0, nil
  for batch, cost in pairs(costs) do
    known = known + 1
    if not finite(cost, COST) then
      oldest = batch
      break
    end
    if not oldest or cost.at < costs[oldest].at then oldest = batch end
  end
  if known >= REMEMBERED then costs[oldest] = nil end
end

-- Learn what calls of a batch use. Input is a mean per byte. Output is a quantile: an answer above it
-- raises it, an answer below it lowers it.
local function learn_cost(lane, item)
  local costs, batch = lane.hot.costs, item.reservation.guess.batch
  local cost = costs[batch]
  if not finite(cost, COST) then
    forget_a_batch(costs)
    cost = { ratio = lane.hot.ratio, output = max(1, item.output), answers = 0 }
    costs[batch] = cost
  end
  cost.answers, cost.at = cost.answers + 1, lane.hot.refilled_at
  local weight = max(LEAST_WEIGHT, 1 / cost.answers)
  if item.bytes > 0 then cost.ratio = cost.ratio + weight * (item.input / item.bytes - cost.ratio) end
  local change = item.output > cost.output and QUANTILE or QUANTILE - 1
  cost.output = max(1, cost.output * (1 + weight * change))
end

-- Learn what calls use: means for the lane, and an estimate for the batch.
local function learn(lane, item, usage_known)
  local hot = lane.hot
  hot.ok_at, hot.ok_end = max(bounded(hot.ok_at, 0, LARGEST, 0), item.reservation.at), hot.refilled_at
  if item.model and item.model ~= lane.name then
    local counts = counts_of(lane, item.model)
    counts.ok_at, counts.ok_end = max(counts.ok_at, item.reservation.at), hot.refilled_at
  end
  hot.latency = hot.latency + item.latency_ms / 1000
  hot.used_input = hot.used_input + item.input
  hot.used_output = hot.used_output + item.output
  if item.reservation.at >= hot.cut_at then hot.running = 0 end
  if not usage_known then return end
  local weight = max(LEAST_WEIGHT, 1 / hot.ok)
  if item.bytes > 0 then hot.ratio = hot.ratio + weight * (item.input / item.bytes - hot.ratio) end
  hot.output = hot.output + weight * (item.output - hot.output)
  hot.guessed = hot.guessed + weight * (item.reservation.guess.output - hot.guessed)
  learn_cost(lane, item)
end

-- Correct the lane's level by what a header reports of the endpoint's bucket. The endpoint wrote the
-- header at some moment between the claim and the answer. A level that the lane had at any moment
-- between them explains it. Only what no such level explains is an error. Half of an error is
-- corrected, all of it when this is the first header. A bucket that refused the call for having too little
-- has gained its refill since, at most: what the refused call gave back is not in it.
local function follow_header(lane, item, i, name, limit, remaining)
  local hot, old, gate = lane.hot, lane.hot.told[name], lane.orders.gates[name]
  local newer = not old or item.reservation.at >= (hot.told_at[name] or 0)
  if newer then hot.told_at[name] = item.reservation.at end
  local most = old and not (newer and old.limit ~= limit) and old.most or remaining + 1
  local before, here = item.reservation.mark[i] + hot.corrected[name], hot.level[name]
  if name == 'output' then here = here + not_generated(lane) end
  local low, high = min(before, here), max(before, here)
  local wrong = min(0, remaining - low) + max(0, remaining - high)
  if wrong > 0 and gate and not gate.mirror then wrong = 0 end -- the fleet fills this bucket itself
  if old then wrong = 0.5 * wrong end
  hot.level[name] = hot.level[name] + wrong
  hot.corrected[name] = hot.corrected[name] + wrong
  if item.outcome == 'refused' and remaining < item.reservation.guess[name] then
    local most = remaining + limit / 60 * (hot.refilled_at - item.reservation.at)
    hot.level[name] = min(hot.level[name], name == 'output' and most - not_generated(lane) or most)
  end
  hot.told[name] = {
    limit = newer and limit or old.limit,
    most = max(most, remaining + item.reservation.guess[name]),
    corrected = hot.corrected[name],
  }
end

local function follow_headers(lane, item, limits)
  for i = 1, #DIMENSIONS do
    local reported = limits[DIMENSIONS[i]]
    if reported then follow_header(lane, item, i, DIMENSIONS[i], reported[1], reported[2]) end
  end
end

-- Pause the fleet after a 429. Only a call that was sent after the last refusal begins a new epoch.
local function refuse(lane, item, limits, now)
  local hot, named = lane.hot, type(item.gate) == 'string' and item.gate
  if item.reservation.at >= hot.cut_at then
    -- Before the first answer nothing ends a row of refusals, though calls may be accepted.
    hot.epoch, hot.running, hot.cut_at = hot.epoch + 1, hot.ok > 0 and hot.running + 1 or 1, now
    hot.cut_in_flight, hot.cut_gate = item.reservation.in_flight, named or ''
    for _, name in ipairs(DIMENSIONS) do
      local reported = limits[name]
      if reported and reported[2] <= 0.01 * reported[1] and not named then hot.cut_gate = name end
    end
    for name, gate in pairs(lane.orders.gates) do
      if not gate.mirror then -- the endpoint's bucket is empty, so the fleet's own is empty too
        hot.level[name] = min(hot.level[name], -0.5 * item.reservation.guess[name])
      end
    end
  end
  local pause = min(4, lane.orders.pause * 2 ^ max(0, hot.running - 1))
  pause = max(pause, bounded(item.retry_after_ms, 0, 1000 * LONGEST_PAUSE, 0) / 1000)
  hot.pause_until = max(hot.pause_until, now + pause)
end

-- The limits that headers report, (limit a minute, remaining) for each dimension. A limit of 0 or an
-- absurd one counts as absent. What is no pair of numbers is an error.
local function limits_in(reported)
  if not reported then return NONE end
  for i = 1, #DIMENSIONS do
    local pair = reported[DIMENSIONS[i]]
    if pair then
      local limit, remaining = pair[1], pair[2]
      local is_limit = limit >= 1 and limit <= LARGEST_LIMIT and remaining >= 0 and remaining <= LARGEST_LIMIT
      if not is_limit then reported[DIMENSIONS[i]] = nil end
    end
  end
  return reported
end

-- Bound what an answer brings from outside, before it enters the state that the fleet shares. Tokens
-- that are not known count as what was reserved. The time of a call is what its worker measured, but
-- not more than has passed on Redis's clock since the claim: a worker's clock may jump. Returns whether
-- the tokens are known.
local function bound_item(item, now)
  local reservation = item.reservation
  local guess, mark = reservation.guess, reservation.mark
  -- A sum is no number when a part is none: then, or when a part is absent, this is an error.
  local sum = reservation.at + reservation.in_flight + mark[1] + mark[2] + mark[3] + guess.input + guess.output
    + guess.requests + guess.pace
  if not (OUTCOMES[item.outcome] and sum > -LARGEST and sum < LARGEST and type(guess.batch) == 'string') then
    error('a settlement without its reservation or outcome')
  end
  local answered = item.outcome == 'ok'
  local usage_known = type(item.input) == 'number' and type(item.output) == 'number'
  item.input = bounded(item.input, 0, LARGEST_CALL, answered and guess.input or 0)
  item.output = bounded(item.output, 0, LARGEST_CALL, answered and guess.output or 0)
  item.bytes = bounded(item.bytes, 0, LARGEST, 0)
  local passed = now - reservation.at
  item.latency_ms = bounded(item.latency_ms, 0, 1000 * (passed < 0 and LONGEST_CALL or passed), 0)
  if passed < 0 then reservation.at = now end
  return usage_known
end

-- Account for one answer; settle.lua describes the item. Whatever the item holds, its slot is freed.
local function settle(lane, item, now)
  local hot, begun = lane.hot, item.outcome == 'begun'
  if type(item.token) == 'string' and not begun then lane.freed_slots[#lane.freed_slots + 1] = item.token end
  local usage_known, limits = bound_item(item, now), limits_in(item.reported)
  if not begun then
    hot[item.outcome] = hot[item.outcome] + 1
    if item.reservation.first then hot.first_ended = hot.first_ended + 1 end
    charge(lane, item)
  end
  if limits ~= NONE then follow_headers(lane, item, limits) end
  if begun then return end
  if item.outcome == 'ok' then learn(lane, item, usage_known) end
  if item.outcome == 'refused' then refuse(lane, item, limits, now) end
  if item.token == hot.trial then
    hot.trial_end = item.outcome == 'failed' and 'failed' or 'ok'
    if item.outcome == 'unsent' then hot.trial, hot.trial_end = '', '' end
  end
end
