-- What an answer means for its account and its lane: account.lua explains what is stored of them.

local TRIALS = 2 -- so many refused trials stop a lane
local MOST_TRIALS = 5 -- the same, when it is doubtful, or the trials are refused in different ways
local SEVERAL = 4 -- refusals in a lane that goes on: when they are half of its calls, it is held
local MOST_KINDS = 8 -- that a lane remembers
local RECENTLY_MS = 600000
local JUST_MS = 60000 -- calls that succeeded so long ago say that the account and the model are right
local REMEMBERED_MS = 3600000 -- how long the end of a stop is remembered; no call lasts longer

-- `item` is the refusal. The kind is kept when the account is stopped for what may concern one request.
local function stop_account(account, item, now)
  local kind = item.outcome == 'suspect' and item.kind or ''
  local reason = type(item.reason) == 'string' and item.reason or ''
  account.fields.state, account.fields.kind = 'stopped', kind
  redis.call('HDEL', account.key, 'trial', 'opened_at')
  redis.call('HSET', account.key, 'state', 'stopped', 'reason', reason, 'stopped_at', now, 'kind', kind)
  redis.call('PERSIST', account.key)
end

local function reopen_account(account, now)
  account.fields = { opened_at = now }
  redis.call('DEL', account.key)
  redis.call('HSET', account.key, 'opened_at', now)
  redis.call('PEXPIRE', account.key, REMEMBERED_MS)
end

-- What an answer means for the account. `sent` is when its call was claimed, ms.
local function weigh_account(account, item, sent, now)
  local fields, outcome = account.fields, item.outcome
  -- A worker of an older version does not note the token of its trial.
  local is_trial = fields.state == 'trying' and (not fields.trial or fields.trial == item.token)
  if is_trial and (outcome == 'unsent' or outcome == 'failed') and fields.trial then
    fields.state = 'trial' -- there was no answer: another job is tried
    redis.call('HSET', account.key, 'state', 'trial')
  elseif is_trial and outcome ~= 'unsent' then
    local same = outcome == 'suspect' and item.kind == fields.kind
    if outcome == 'stop' or same then return stop_account(account, item, now) end
    reopen_account(account, now)
  elseif outcome == 'stop' and (not fields.state or fields.state == 'stopped') then
    local opened = bounded(fields.opened_at, 0, EXACT, 0)
    if opened > now or sent > opened then stop_account(account, item, now) end
  end
end

-- Put a job into a table of a lane, as long as it has room.
local function note_job(jobs, id, value)
  local known = 0
  for _ in pairs(jobs) do known = known + 1 end
  if known < MOST_JOBS or jobs[id] then jobs[id] = value end
end

-- Let a job fail when it is claimed next, with the error of its last attempt; not when its request was
-- replaced since it was refused.
local function judge(hold, id)
  if redis.call('HEXISTS', RECORD .. id, 'refused_at') == 0 then return end
  redis.call('HSET', RECORD .. id, 'judged', 1)
  if hold then note_job(hold.judged, id, 1) end
end

-- No job fails for what was refused so far; others are only tried before these.
local function forgive_jobs(hold)
  for id in pairs(hold.jobs) do hold.jobs[id] = 0 end
end

-- The lane goes on. `theirs`: such refusals concern their own jobs.
local function let_pass(hold, theirs, now)
  local kinds, found = 0, false
  for id, refused_at in pairs(theirs and hold.jobs or NONE) do
    if bounded(refused_at, 0, EXACT, 0) > 0 then
      judge(hold, id)
      found = true
    end
  end
  for _ in pairs(hold.passed) do kinds = kinds + 1 end
  if kinds >= MOST_KINDS then hold.passed = {} end
  if found and hold.own then hold.passed[hold.kind] = now end
  hold.state, hold.jobs, hold.trial, hold.cleared = 'passed', {}, '', now
end

-- Whether other lanes of the account were stopped for the same kind of refusal, and no lane had a call
-- that was sent since and succeeded.
local function is_of_account(account, model, hold, facts)
  local others = false
  for name, other in pairs(account.on_hold) do
    others = others or name ~= model and other.state == 'stopped' and other.kind == hold.kind
  end
  if not others then return false end
  local prefix = account.name .. ':'
  for _, name in ipairs(redis.call('SMEMBERS', LANES)) do
    local lane = string.sub(name, 1, #prefix) == prefix and string.sub(name, #prefix + 1)
    if lane and facts(lane).ok_at > hold.since then return false end
  end
  return true
end

-- Whether refusals concern their own jobs when there was no other job to try: a call that was sent with
-- the first refused one or later succeeded, such refusals were found to concern their own jobs a moment
-- ago, or one job alone was refused, and another call succeeded just before it was sent, or later. Such a
-- success is used once: where each job is alone, a permission that is withdrawn must not fail them all.
local function concerns_jobs(item, hold, now, facts)
  if hold.fresh > 0 or not item.own then return false end
  local known, first = facts(item.model), next(hold.jobs)
  local alone = not first or not next(hold.jobs, first)
  local passed = bounded(hold.passed[hold.kind], 0, EXACT, 0) > now - RECENTLY_MS
  local worked = known.ok_end >= hold.sent - JUST_MS and known.ok_end > hold.cleared
  return passed or known.ok_at >= hold.sent or alone and worked
end

-- Enough trials were refused. The lane is stopped and nothing fails, unless they concern their own jobs.
local function stop_lane(account, item, hold, now, facts)
  if concerns_jobs(item, hold, now, facts) then
    local passed = hold.passed[hold.kind]
    let_pass(hold, true, now)
    -- Only a later call that succeeded says something of the next job that is refused.
    if facts(item.model).ok_at < hold.sent then hold.passed[hold.kind] = passed end
    return
  end
  hold.state, hold.trial, hold.stopped, hold.sent, hold.passed = 'stopped', '', now, now, {}
  forgive_jobs(hold)
  if account.fields.state ~= 'stopped' and is_of_account(account, item.model, hold, facts) then
    stop_account(account, item, now)
  end
end

local function new_hold(item, before, sent, now)
  before = before or { judged = {}, passed = {}, cleared = 0, stopped = 0 }
  return { state = 'held', kind = item.kind, reason = item.reason, own = item.own, since = now, sent = sent, calls = 0,
    jobs = { [item.job] = item.refused_at }, tried = 0, rounds = 0, fresh = 0, trial = '', trial_job = '',
    judged = before.judged, passed = before.passed, cleared = before.cleared, stopped = before.stopped }
end

-- Such refusals concerned their own jobs before, so this one probably does too: the lane goes on, and the
-- job waits until a call that was sent later succeeds. When refusals are half of the later calls, the
-- lane is held.
local function doubt_one(hold, item, sent, now, facts)
  local calls = facts(item.model).calls
  if not next(hold.jobs) then
    hold.since, hold.sent, hold.calls, hold.tried = now, sent, calls, 0
  elseif sent > hold.since then
    hold.tried = hold.tried + 1
  end
  hold.kind, hold.reason, hold.own = item.kind, item.reason, item.own
  if hold.tried >= SEVERAL and hold.tried >= 0.5 * (calls - hold.calls) then
    forgive_jobs(hold)
    hold.state, hold.since, hold.tried, hold.rounds, hold.fresh = 'held', now, 0, 0, 0
  end
  note_job(hold.jobs, item.job, item.refused_at)
end

-- A lane that is tried was refused again.
local function doubt_more(account, hold, item, sent, now, facts)
  if item.token ~= hold.trial and sent <= hold.since then -- it was sent before the lane was held
    hold.sent = min(hold.sent, sent)
    if not hold.jobs[item.job] then note_job(hold.jobs, item.job, 0) end
    return
  end
  hold.rounds, hold.reason, hold.trial = hold.rounds + 1, item.reason, ''
  if item.kind == hold.kind then hold.tried = hold.tried + 1 end
  if not (hold.jobs[item.job] or item.again) then hold.fresh = hold.fresh + 1 end
  note_job(hold.jobs, item.job, item.refused_at)
  -- When a call that was sent with the first refused one or later succeeded, more trials are needed.
  local doubtful = item.own and hold.fresh > 0 and facts(item.model).ok_at >= hold.sent
  if hold.tried >= TRIALS and not doubtful or hold.rounds >= MOST_TRIALS then stop_lane(account, item, hold, now, facts) end
end

-- Whether a job was refused before, and a call that was sent after that succeeded. What was refused
-- before its lane was stopped does not count.
local function refused_again(hold, item, now, facts)
  local record = RECORD .. item.job
  local before = bounded(redis.call('HGET', record, 'refused_at'), 0, EXACT, 0)
  local counts = before > (hold and hold.stopped or 0) and before > now - REMEMBERED_MS and before <= now
  item.again = counts
  if counts then return item.own and facts(item.model).ok_at > before end
  if redis.call('EXISTS', record) == 1 then redis.call('HSET', record, 'refused_at', now) end
  return false
end

local function weigh_suspect(account, item, sent, now, facts)
  local model, hold = item.model, account.on_hold[item.model]
  if type(item.job) ~= 'string' or type(item.kind) ~= 'string' then error('a refusal without its job') end
  item.reason = type(item.reason) == 'string' and item.reason or item.kind
  local of_a_limit = string.sub(item.kind, 1, 3) == '429' -- that is never the fault of one job
  item.own, item.refused_at = item.own == true and not of_a_limit, of_a_limit and 0 or now
  account.changed[model] = true
  if refused_again(hold, item, now, facts) then
    if hold then hold.jobs[item.job] = nil end
    return judge(hold, item.job)
  end
  if hold and hold.cleared <= now and sent <= hold.cleared then return end
  if hold and hold.state == 'held' then
    doubt_more(account, hold, item, sent, now, facts)
  elseif hold and hold.state == 'stopped' then
    note_job(hold.jobs, item.job, 0)
  elseif hold and hold.passed[item.kind] and item.own then
    doubt_one(hold, item, sent, now, facts)
  else
    account.on_hold[model] = new_hold(item, hold, sent, now)
  end
end

-- A call succeeded. In a held lane that is the answer to the trial, or to another call sent since.
local function weigh_success(account, item, hold, sent, now, facts)
  if hold.state == 'held' and (item.token == hold.trial or sent > hold.since) then
    -- When the job was itself refused before, such refusals come and go: they concern no job.
    let_pass(hold, not (item.token == hold.trial and hold.jobs[hold.trial_job]), now)
  elseif hold.state == 'passed' and next(hold.jobs) then
    for id, refused_at in pairs(hold.jobs) do
      refused_at = bounded(refused_at, 0, EXACT, 0)
      if sent > refused_at then
        if refused_at > 0 then judge(hold, id) end
        hold.jobs[id] = nil
      end
    end
    if sent > hold.since then hold.since, hold.calls, hold.tried = now, facts(item.model).calls, 0 end
  elseif hold.state == 'passed' and now - hold.cleared > REMEMBERED_MS then
    account.on_hold[item.model] = nil
  else
    return
  end
  account.changed[item.model] = true
end

-- What an answer means for its account and its lane. `facts` returns of a model: ok_at, when the latest
-- call that has succeeded was sent, ms; ok_end, when a call succeeded last, ms; calls, how many were sent.
local function weigh(account, item, now, facts)
  local outcome, hold = item.outcome, account.on_hold[item.model]
  if not (account.fields.state or hold or outcome == 'stop' or outcome == 'suspect') then return end
  local reservation = type(item.reservation) == 'table' and item.reservation or NONE
  local sent = math.floor(1000 * bounded(reservation.at, 0, EXACT / 1000, 0) + 0.5)
  weigh_account(account, item, sent, now)
  if outcome == 'suspect' then
    weigh_suspect(account, item, sent, now, facts)
  elseif outcome == 'ok' and hold then
    weigh_success(account, item, hold, sent, now, facts)
  end
end
