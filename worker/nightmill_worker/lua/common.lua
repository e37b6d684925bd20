-- Shared by the worker's scripts: the clock, the buckets of a lane, the batch a queue belongs to.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- `nightmill:queue:<batch>:<model>` -> batch; the shared queue -> "" (single jobs).
local function batch_of(queue)
  return string.match(queue, '^' .. QUEUE .. ':([^:]+):') or SINGLES
end

-- Whether `token` still holds job `id`. The record decides: a lease that ran out but that nobody
-- took over is still its holder's, so a slow worker does not throw a paid answer away.
local function holds(id, token)
  return redis.call('HGET', RECORD .. id, 'token') == token
end

-- Add up changes to the counts of batches and write each field once.
local function tally()
  local changes = {}
  return {
    add = function(batch, field, amount)
      local of = changes[batch] or {}
      of[field] = (of[field] or 0) + amount
      changes[batch] = of
    end,
    write = function()
      for batch, of in pairs(changes) do
        for field, amount in pairs(of) do
          if amount ~= 0 then redis.call('HINCRBY', BATCH .. batch, field, amount) end
        end
      end
    end,
  }
end

-- A token bucket of `per_minute`, refilled to `now`, holding at most `seconds` worth. It may be in
-- debt (a call larger than the bucket is granted at a full one); nil per_minute means no limit.
local function bucket(lane, name, per_minute, seconds, now)
  if not per_minute then return nil end
  local rate = per_minute / 60000
  local capacity = math.max(1, per_minute * seconds / 60)
  local level = lane[name] and tonumber(lane[name]) or capacity
  local since = lane.refilled_at and tonumber(lane.refilled_at) or now
  return {
    level = math.min(capacity, level + rate * math.max(0, now - since)),
    rate = rate,
    capacity = capacity,
  }
end

local function hash(key)
  local flat, fields = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end
