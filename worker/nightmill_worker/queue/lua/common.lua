-- Shared by the worker's scripts: guards, the clock, who holds a job, the counts of batches.

local EXACT = 2 ^ 53 -- whole numbers up to here are exact in Lua
local min, max, type, pcall = math.min, math.max, type, pcall -- as locals they cost half

-- A number, at least `low` and at most `high`. What is no number (text, null, NaN) becomes `other`.
local function bounded(value, low, high, other)
  if type(value) ~= 'number' then value = tonumber(value) end
  if not value or value ~= value then return other end
  if value < low then return low end
  return value > high and high or value
end

-- The table that a JSON text holds; nil when it is no JSON, or no object or array.
local function decoded(text)
  local ok, value = pcall(cjson.decode, text)
  return ok and type(value) == 'table' and value or nil
end

-- Do something for one item of a group. An error in it must not fail the others: it goes to Redis's
-- log. A command or key that this user may not use is no error of the item: it fails the script.
-- Returns whether there was none, and what `act` returns.
local function guarded(act, ...)
  local ok, result = pcall(act, ...)
  if ok then return true, result end
  local text = tostring(type(result) == 'table' and result.err or result)
  if string.find(text, 'NOPERM', 1, true) or string.find(text, 'ACL failure', 1, true) then error(result, 0) end
  redis.log(redis.LOG_WARNING, 'nightmill: ' .. text)
  return false, nil
end

-- Whether a name is UTF-8: workers put it into JSON.
local function is_utf8(name)
  if not string.find(name, '[\128-\255]') then return true end
  for _, wrong in ipairs({ '\224[\128-\159]', '\237[\160-\191]', '\240[\128-\143]', '\244[\144-\191]' }) do
    if string.find(name, wrong) then return false end
  end
  local rest = string.gsub(name, '[\194-\223][\128-\191]', '.')
  rest = string.gsub(rest, '[\224-\239][\128-\191][\128-\191]', '.')
  rest = string.gsub(rest, '[\240-\244][\128-\191][\128-\191][\128-\191]', '.')
  return not string.find(rest, '[\128-\255]')
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- `nightmill:queue:<batch>:<model>` -> batch; the shared queue -> "" (single jobs).
local batches_of = {}
local function batch_of(queue)
  local batch = batches_of[queue]
  if not batch then
    batch = string.match(queue, '^' .. QUEUE .. ':([^:]+):') or SINGLES
    batches_of[queue] = batch
  end
  return batch
end

-- Whether the worker with `token` still holds job `id`. The record decides, not the lease: while no
-- other worker has claimed the job, an expired lease is still its holder's. So a slow worker does not
-- lose an answer that was paid for.
local function holds(id, token)
  return redis.call('HGET', RECORD .. id, 'token') == token
end

-- Whether Redis knows nothing of a claimed job: it has lost the job, or another worker has ended it.
local function is_gone(id)
  return redis.call('EXISTS', RECORD .. id, RESULT .. id) == 0
end

-- Sum up changes to the counts of batches, and write each field once.
local function tally()
  local changes = {}
  local function write(key, fields, amounts)
    if #fields == 0 then return end
    local pairs_to_write = {}
    for i, before in ipairs(redis.call('HMGET', key, unpack(fields))) do
      local sum = bounded(before, -EXACT, EXACT, 0) + amounts[i]
      pairs_to_write[2 * i - 1] = fields[i]
      pairs_to_write[2 * i] = string.format('%.0f', bounded(sum, -EXACT, EXACT, 0))
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
        guarded(write, BATCH .. batch, fields, amounts)
      end
    end,
  }
end

-- Count what calls used: input and output tokens, and cost (nano-dollars, -1 = unknown). A job whose
-- answers are a chain reports the amounts of its whole run so far: what was counted of them is `known`, the
-- field `chain` of its record ("<input> <output> <cost>"). Returns the cost that was counted.
local function count_usage(counts, batch, item, known)
  local cost = bounded(item.cost, -1, EXACT, -1)
  local input, output, paid = 0, 0, 0
  if known then
    input, output, paid = string.match(known, '^(%d+) (%d+) (-?%d+)$')
  end
  local function rest(amount, counted) return max(0, bounded(amount, 0, EXACT, 0) - bounded(counted, 0, EXACT, 0)) end
  counts.add(batch, 'input_tokens', rest(item.input, input))
  counts.add(batch, 'output_tokens', rest(item.output, output))
  if cost < 0 then
    counts.add(batch, 'unpriced', bounded(paid, -1, EXACT, 0) < 0 and 0 or 1)
    return 0
  end
  counts.add(batch, 'nanodollars', rest(cost, paid))
  return rest(cost, paid)
end

-- Count the part of the cost that bought no result: kind -> nano-dollars, as records/waste.py has it.
local WASTE = { 'failed', 'truncated', 'repeated' }
local function count_wasted(counts, batch, wasted)
  if type(wasted) ~= 'table' then return end
  for _, kind in ipairs(WASTE) do counts.add(batch, 'wasted:' .. kind, bounded(wasted[kind], 0, EXACT, 0)) end
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
  local old = decoded(redis.call('LINDEX', key, 5)) or {}
  redis.call('LSET', key, 5, '')
  redis.call('LREM', key, 1, '')
  local cut = decoded(redis.call('HGET', record, 'cut')) or {}
  local reasons = type(cut.reasons) == 'table' and cut.reasons or {}
  local call_ms = bounded(cut.call_ms, 0, EXACT, 0) + bounded(old.duration_ms, 0, EXACT, 0)
  local counted = bounded(cut.counted, 0, EXACT, 0)
  if old.counted == false then
    local reason = type(old.error_type) == 'string' and old.error_type or tostring(old.outcome)
    reasons[reason] = bounded(reasons[reason], 0, EXACT, 0) + 1
  else
    counted = counted + 1
  end
  cut = { counted = counted, call_ms = math.min(EXACT, call_ms), reasons = reasons }
  redis.call('HSET', record, 'cut', cjson.encode(cut))
end

-- A counter of a record as a whole number, "0" when it is none.
local function whole(text)
  return text and #text < 16 and string.find(text, '^%d+$') and text or '0'
end
