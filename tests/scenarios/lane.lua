-- Runs lane.lua with a clock that is an argument. test_lane.py compares the Python lane with it.
-- ARGV[1]  JSON: account, model, now (s), orders, and either take [{batch, size, max_tokens, slot}] and
--          lease_s, or settle [items as settle.lua gets them]
-- Returns  {JSON of the lane's state, calls in flight, the gate that closed or "", its wait in ms,
--          reservations of the calls taken}
local ask = cjson.decode(ARGV[1])
local lane = open_lane(ask.account, ask.model, ask.now, cjson.encode(ask.orders))
if ask.take then count_slots(lane, ask.now) end
local closed, ms, reservations = nil, 0, {}
for _, job in ipairs(ask.take or {}) do
  local payload = '"max_tokens":' .. job.max_tokens .. ','
  payload = payload .. string.rep(' ', job.size - #payload)
  local guess = guess_of(lane, payload, job.batch)
  closed, ms = closed_gate(lane, guess, ask.now)
  if closed then break end
  reservations[#reservations + 1] = take(lane, guess, job.slot, ask.now, (ask.now + ask.lease_s) * 1000)
end
for _, item in ipairs(ask.settle or {}) do
  item.model = ask.model
  settle(lane, item, ask.now)
end
save_lane(lane)
local in_flight = redis.call('ZCARD', lane.slots)
return { cjson.encode(lane.hot), in_flight, closed or '', tostring(ms or 0), unpack(reservations) }
