-- Prolong leases, all of a worker's in one call.
-- A job whose answer waits for the store (answered) gets the longer lease from then on, for as long as
-- this claim lasts: its worker may restart before the store takes the answer.
-- ARGV[1]  JSON: account, lease_ms, answered_ms, items [{id, token, queue, lane, answered?}]
-- Returns  {ids that another worker holds by now}, {ids of which Redis knows nothing: it has lost them, or
--          another worker has ended them}. An item that cannot be renewed is logged.
local ask = cjson.decode(ARGV[1])
local now = now_ms()
local lost, gone = {}, {}

local function renew(item)
  if not holds(item.id, item.token) then
    local of = is_gone(item.id) and gone or lost
    of[#of + 1] = item.id
    return
  end
  local record = RECORD .. item.id
  if item.answered then redis.call('HSET', record, 'answered', item.token) end
  local answered = redis.call('HGET', record, 'answered') == item.token
  local lease_ms = answered and ask.answered_ms or ask.lease_ms
  redis.call('SET', IN_PROGRESS .. item.id, item.token, 'PX', lease_ms)
  redis.call('ZADD', item.queue, 'XX', now + lease_ms, item.id)
  local slots = LANE .. ask.account .. ':' .. item.lane .. ':slots'
  redis.call('ZADD', slots, 'XX', now + lease_ms, item.token)
end

for _, item in ipairs(ask.items) do guarded(renew, item) end
return { lost, gone }
