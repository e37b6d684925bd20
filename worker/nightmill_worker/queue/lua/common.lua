-- Shared by the worker's scripts: guards, the clock, who holds a job, the counts of batches.

local EXACT = 2 ^ 53 -- whole numbers up to here are exact in Lua

-- A number, at least `low` and at most `high`. What is no number (text, null, NaN) becomes `other`.
local function bounded(value, low, high, other)
  value = tonumber(value)
  if not value or value ~= value then return other end
  return math.max(low, math.min(high, value))
end

-- The table that a JSON text holds; nil when it is no JSON, or no object or array.
local function decoded(text)
  local ok, value = pcall(cjson.decode, text)
  return ok and type(value) == 'table' and value or nil
end

-- Do something for one item of a group. An error in it must not fail the others: it goes to Redis's
-- log. Returns whether there was none.
local function guarded(act, ...)
  local ok, problem = pcall(act, ...)
  if not ok then
    redis.log(redis.LOG_WARNING, 'nightmill: ' .. tostring(type(problem) == 'table' and problem.err or problem))
  end
  return ok
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- `nightmill:queue:<batch>:<model>` -> batch; the shared queue -> "" (single jobs).
local function batch_of(queue)
  return string.match(queue, '^' .. QUEUE .. ':([^:]+):') or SINGLES
end

-- Whether the worker with `token` still holds job `id`. The record decides, not the lease: while no
-- other worker has claimed the job, an expired lease is still its holder's. So a slow worker does not
-- lose an answer that was paid for.
local function holds(id, token)
  return redis.call('HGET', RECORD .. id, 'token') == token
end

-- Sum up changes to the counts of batches, and write each field once.
local function tally()
  local changes = {}
  local function write(key, fields, amounts)
    if #fields == 0 then return end
    local pairs_to_write = {}
    for i, before in ipairs(redis.call('HMGET', key, unpack(fields))) do
      pairs_to_write[2 * i - 1] = fields[i]
      pairs_to_write[2 * i] = string.format('%.0f', (tonumber(before) or 0) + amounts[i])
    end
    redis.call('HSET', key, unpack(pairs_to_write))
  end
  return {
    add = function(batch, field, amount)
      local of = changes[batch] or {}
      of[field] = (of[field] or 0) + amount
      changes[batch] = of
    end,
    write = function()
      for batch, of in pairs(changes) do
        local fields, amounts = {}, {}
        for field, amount in pairs(of) do
          if amount ~= 0 then fields[#fields + 1], amounts[#amounts + 1] = field, amount end
        end
        write(BATCH .. batch, fields, amounts)
      end
    end,
  }
end

local function hash(key)
  local flat, fields = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- Add an attempt to the history of job `id`. The history keeps the first 5 and the last 20 attempts,
-- as a row does. An attempt that drops out between them is added to the sums in the record's `cut`,
-- so the totals of the row stay exact.
local function add_attempt(id, attempt)
  local key, record = ATTEMPTS .. id, RECORD .. id
  if redis.call('RPUSH', key, attempt) <= 25 then return end
  local old = cjson.decode(redis.call('LINDEX', key, 5))
  redis.call('LSET', key, 5, '')
  redis.call('LREM', key, 1, '')
  local cut = redis.call('HGET', record, 'cut')
  cut = cut and cjson.decode(cut) or { counted = 0, call_ms = 0, reasons = {} }
  cut.call_ms = cut.call_ms + (old.duration_ms or 0)
  if old.counted == false then
    local reason = old.error_type or old.outcome
    cut.reasons[reason] = (cut.reasons[reason] or 0) + 1
  else
    cut.counted = cut.counted + 1
  end
  redis.call('HSET', record, 'cut', cjson.encode(cut))
end
