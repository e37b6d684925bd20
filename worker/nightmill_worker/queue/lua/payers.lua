-- Budgets of keys: what the jobs of a key may cost in each hour, day or month of UTC. A gateway stores the
-- budget, claims hold jobs back that do not fit, and who ends a call adds what it cost.
local payers = {} -- Lua allows 200 local variables, so these functions are in a table

do
  local DAY_MS, LATER_MS, known = 86400000, 1000, {}

  -- The first day of a day's month; both are days since 1970-01-01.
  local function month_start(day)
    local of_era = (day + 719468) % 146097 -- an era has 400 years; each begins on a 1st of March
    local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
      - math.floor(of_era / 146096)) / 365)
    local of_year = of_era - 365 * year - math.floor(year / 4) + math.floor(year / 100)
    local month = math.floor((5 * of_year + 2) / 153)
    return day - of_year + math.floor((153 * month + 2) / 5)
  end

  local function period_start(period, now)
    if period == 'hour' then return now - now % 3600000 end
    local day = math.floor(now / DAY_MS)
    return (period == 'month' and month_start(day) or day) * DAY_MS
  end

  -- The budget of a key, and what is spent of it in this period; `budget` is nil when it has none.
  local function open_payer(id, now)
    local found = redis.call('HMGET', BUDGET .. id, 'budget', 'period', 'start', 'spent', 'answers', 'unpriced',
      'price_in', 'price_out')
    local payer = { key = BUDGET .. id, budget = found[1] and bounded(found[1], 0, EXACT, 0) }
    if not payer.budget then return payer end
    payer.start = period_start(found[2], now)
    local same = bounded(found[3], 0, EXACT, -1) == payer.start
    for i, name in ipairs({ 'spent', 'answers', 'unpriced' }) do
      payer[name] = same and bounded(found[3 + i], 0, EXACT, 0) or 0
    end
    payer.price_in, payer.price_out = bounded(found[7], 0, 1e15, 0), bounded(found[8], 0, 1e15, 0)
    payer.in_flight = redis.call('SCARD', payer.key .. ':jobs')
    return payer
  end

  local function payer_of(id, now)
    known[id] = known[id] or open_payer(id, now)
    return known[id]
  end

  -- The key that pays for a job, nil for none; and whether the payload names it, and not the whole batch.
  local function who_pays(payload, batch)
    if string.sub(payload, 26, 31) == '"p":"n' then return string.match(payload, '^"p":"([%w_]+)"', 26), true end
    local limits = batch.limits
    return limits and type(limits.payer) == 'string' and limits.payer or nil, false
  end

  -- Whether the budget of a key allows one more call beside those in flight, as batch.lua's `fits`. When
  -- none is in flight and the next one does not fit, `over` is set: the gateway takes no more.
  local function affords_one(id, payload, now)
    local payer = payer_of(id, now)
    if not payer.budget then return true end
    local output = bounded(string.match(payload, '"max_tokens":%s*(%d+)'), 0, EXACT, 0)
    local ceiling = #payload / 3 * payer.price_in + output * payer.price_out
    local each = expected({ succeeded = payer.answers, answers = payer.answers }, payer.spent, ceiling)
    local fits = payer.spent + (payer.in_flight + 1) * each <= payer.budget or payer.spent + payer.in_flight == 0
    if fits and payer.unpriced == 0 then return true end
    if payer.in_flight == 0 then redis.call('HSET', payer.key, 'over', string.format('%.0f', payer.start)) end
    return false
  end

  -- Whether a job does not fit the budget of its key. Returns true, and 'budget' when that holds for all
  -- jobs of its batch. Otherwise it is put back, so that jobs of other keys behind it may go.
  function payers.hold(job, payload, queue, batch, now)
    local id, own = who_pays(payload, batch)
    if not id or affords_one(id, payload, now) then return false end
    if not own then return true, 'budget' end
    redis.call('ZADD', queue, 'XX', now + LATER_MS, job)
    return true
  end

  -- A job is called: note it with the key that pays.
  function payers.take(job, payload, batch, now)
    local id = who_pays(payload, batch)
    local payer = id and payer_of(id, now)
    if not payer or not payer.budget then return end
    payer.in_flight = payer.in_flight + redis.call('SADD', payer.key .. ':jobs', job)
    redis.call('HSET', RECORD .. job, 'payer', id)
  end

  -- A call of a job has cost so many nano-dollars (below 0: it has no known price). `held`: another call
  -- of the job runs.
  function payers.charge(id, job, cost, now, held)
    known[id] = nil
    if not held then redis.call('SREM', BUDGET .. id .. ':jobs', job) end
    if cost == 0 then return end
    local payer = payer_of(id, now)
    if not payer.budget then return end
    local changes = { start = payer.start, spent = min(EXACT, payer.spent + max(0, cost)),
      answers = payer.answers + (cost > 0 and 1 or 0), unpriced = payer.unpriced + (cost < 0 and 1 or 0) }
    for name, value in pairs(changes) do redis.call('HSET', payer.key, name, string.format('%.0f', value)) end
    known[id] = nil
  end
end
