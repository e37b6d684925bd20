-- What a claim must know of a batch: whether it is open, and what its limits still allow.
-- nightmill/records/limits.py explains the limits.

local COUNTED = { 'in_flight', 'succeeded', 'input_tokens', 'output_tokens', 'nanodollars', 'unpriced', 'answers' }

local LIMITS = { 'weight', 'concurrency', 'expires_at', 'budget_tokens', 'budget_usd', 'price_in', 'price_out' }

-- Return the limits stored with a batch, bounded; nil when one of them is no number.
local function read_limits(text)
  local limits = decoded(text)
  if not limits then return nil end
  for _, name in ipairs(LIMITS) do
    local limit = limits[name]
    if limit == cjson.null then limits[name] = nil
    elseif limit ~= nil and (type(limit) ~= 'number' or limit ~= limit) then return nil end
  end
  limits.weight = bounded(limits.weight, 1, 1000, 1)
  limits.concurrency = bounded(limits.concurrency, 1, EXACT, nil)
  limits.expires_at = bounded(limits.expires_at, 0, EXACT, nil)
  limits.budget_tokens = bounded(limits.budget_tokens, 1, EXACT, nil)
  limits.budget_usd = bounded(limits.budget_usd, 0, 1e6, nil)
  limits.price_in = bounded(limits.price_in, 0, 1e15, 0)
  limits.price_out = bounded(limits.price_out, 0, 1e15, 0)
  return limits
end

local function open_batch(name, now)
  local found = redis.call('HMGET', BATCH .. name, 'flag', 'limits', 'accept_id')
  -- `room` is how many more of its jobs may be in flight.
  local batch = { name = name, open = not found[1], weight = 1, room = math.huge, accept_id = found[3] }
  if not found[2] then return batch end
  local limits = read_limits(found[2])
  if not limits then -- without its budget, no job of the batch may run
    batch.open = false
    if not found[1] then
      move_batch(name, 'pause', 'the limits stored with the batch cannot be read: set them again')
    end
    return batch
  end
  batch.limits, batch.weight = limits, limits.weight
  if limits.expires_at and limits.expires_at <= now then batch.open = false end
  if not batch.open then return batch end
  local counted = redis.call('HMGET', BATCH .. name, unpack(COUNTED))
  for i, field in ipairs(COUNTED) do batch[field] = bounded(counted[i], -EXACT, EXACT, 0) end
  if limits.concurrency then batch.room = limits.concurrency - batch.in_flight end
  return batch
end

local function count_granted(batch)
  batch.room = batch.room - 1
  if batch.limits then batch.in_flight = batch.in_flight + 1 end
end

-- What one more job is expected to use: the mean of the answers so far, replaced ones too. While few are there, the
-- job's own ceiling counts too. Its weight falls with every job that ends.
local function expected(batch, used, ceiling)
  local ended = max(batch.succeeded, batch.answers)
  local mean = ended > 0 and used / ended or ceiling
  return mean + max(0, ceiling - mean) / (1 + ended * ended)
end

-- An amount with two digits that say something: $25.00, $0.10, $0.083.
local function dollars(amount)
  local digits = 2
  while amount > 0 and digits < 9 and amount * 10 ^ digits < 10 do digits = digits + 1 end
  local text = string.format('$%.' .. digits .. 'f', amount)
  return (string.gsub(text, '(%.%d%d%d-)0+$', '%1'))
end

local function mark_spent(batch, used, budget, each, in_dollars)
  local text
  if in_dollars then
    text = string.format('%s of %s is spent and the next call may cost up to %s',
      dollars(used), dollars(budget), dollars(each))
  else
    text = string.format('%.0f of %.0f tokens are used and the next call may use up to %.0f', used, budget, each)
  end
  move_batch(batch.name, 'spend', text)
end

-- Whether a budget allows one more job beside those in flight. The first job of a batch always may
-- go: only its answer shows what a job uses. When no job is in flight and the next one does not fit,
-- no later one will: the budget is spent.
local function fits(batch, budget, used, ceiling, in_dollars)
  local each = expected(batch, used, ceiling)
  if used + (batch.in_flight + 1) * each <= budget or used + batch.in_flight == 0 then return true end
  if batch.in_flight == 0 then mark_spent(batch, used, budget, each, in_dollars) end
  return false
end

local function affords(batch, payload)
  local limits = batch.limits
  if not limits or not (limits.budget_tokens or limits.budget_usd) then return true end
  local input = #payload / 3
  local output = bounded(string.match(payload, '"max_tokens":%s*(%d+)'), 0, EXACT, 0)
  local tokens, nano = limits.budget_tokens, 1e9
  if tokens and not fits(batch, tokens, batch.input_tokens + batch.output_tokens, input + output, false) then
    return false
  end
  if not limits.budget_usd then return true end
  if batch.unpriced > 0 and not tokens then
    move_batch(batch.name, 'spend', 'no price is known for a model of this batch; give a budget in tokens')
    return false
  end
  local ceiling = (input * limits.price_in + output * limits.price_out) / nano
  return fits(batch, limits.budget_usd, batch.nanodollars / nano, ceiling, true)
end
