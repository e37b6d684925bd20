-- Which job a claim tries while its account or its lane waits for a trial (see account.lua). The same
-- job again would say nothing new: others go first, from a random place of the queue, since jobs that
-- stand together are often alike.

local LONGEST_TRIAL_MS = 3600000 -- a trial that ends later began before Redis's clock went back

-- Whether the account's trial is under way: its slot lives as long as its lease.
local function account_is_tried(account, now)
  local fields = account.fields
  local ends = fields.until_ms -- of a worker of an older version
  if fields.trial then
    ends = redis.call('ZSCORE', LANE .. account.name .. ':' .. (fields.trial_lane or '') .. ':slots', fields.trial)
  end
  ends = bounded(ends, 0, EXACT, 0)
  return ends > now and ends <= now + LONGEST_TRIAL_MS
end

-- How many jobs a claim may take from an account.
local function wanted(account, want, now)
  local fields = account.fields
  if fields.state == 'trying' and not account_is_tried(account, now) then fields.state = 'trial' end
  if fields.state == 'stopped' or fields.state == 'trying' then return 0 end
  return fields.state == 'trial' and min(want, 1) or want
end

-- Whether one job at a time is tried, in the account or in one of its lanes.
local function tries_jobs(account)
  for _, hold in pairs(account.on_hold) do
    if hold.state == 'held' then return true end
  end
  return account.fields.state == 'trial'
end

-- What a worker shows of lanes whose jobs wait: model -> {state, reason}.
local function shown_holds(account)
  local shown = {}
  for model, hold in pairs(account.on_hold) do
    if hold.state ~= 'passed' then shown[model] = { hold.state, hold.reason } end
  end
  return shown
end

-- Note whether a lane's trial is under way. Call it after the slots of dead workers were removed.
local function note_lane_trial(account, lane)
  local hold = account.on_hold[lane.model]
  local trial = hold and hold.state == 'held' and hold.trial ~= ''
  lane.tried = trial and redis.call('ZSCORE', lane.slots, hold.trial) and true or false
end

-- Whether one job at a time is tried now, so that it matters which.
local function waits_for_trial(account, lane)
  local hold = account.on_hold[lane.model]
  return account.fields.state == 'trial' or hold and (hold.state == 'held' or hold.state == 'stopped')
end

-- Whether no job of a lane may be called now. A lane that was stopped when there was no other job to try
-- takes the next other one as its trial: one job must not stop all.
local function lane_waits(account, lane)
  local hold = account.on_hold[lane.model]
  return lane.tried or hold and hold.state == 'stopped' and hold.fresh > 0 or false
end

-- Up to `count` due jobs of a queue that fail without another call: they go also while the lane waits.
local function judged_jobs(account, lane, queue, now, count)
  local found, hold = {}, account.on_hold[lane.model]
  for id in pairs(hold.judged) do
    local due = redis.call('ZSCORE', queue, id)
    if due and tonumber(due) <= now and #found < count then found[#found + 1] = id end
  end
  return found
end

-- Why a job is kept back: 'held' (its lane is stopped, or a trial is under way), 'job' (it was refused,
-- so others are tried first); nil when it may go.
local function kept_back(account, lane, id)
  local fields, hold = account.fields, account.on_hold[lane.model]
  if fields.state == 'trying' then return 'held' end
  if fields.state == 'trial' and id == fields.trial_job then return 'job' end
  if not hold then return nil end
  local waits = lane_waits(account, lane) and 'held' or hold.jobs[id] and 'job' or nil
  return waits and redis.call('HGET', RECORD .. id, 'judged') ~= '1' and waits or nil
end

-- The call of this job is the trial, when its account or its lane waits for one. A job that fails
-- without a call is none.
local function note_trial(account, lane, id, verdict, token, lease_end)
  local fields, hold = account.fields, account.on_hold[lane.model]
  if verdict ~= 'run' and verdict ~= 'alone' then
    if hold and hold.judged[id] then hold.judged[id], account.changed[lane.model] = nil, true end
    return
  end
  -- There was no other job: the refused one is tried itself, or the lane was stopped until another came.
  if hold and (hold.state == 'stopped' or hold.state == 'passed' and hold.jobs[id]) then
    hold.state, hold.tried, hold.rounds, hold.fresh = 'held', 0, 0, 0
  end
  if hold and hold.state == 'held' then
    hold.trial, hold.trial_job, lane.tried = token, id, true
    account.changed[lane.model] = true
  end
  if fields.state == 'trial' then
    fields.state = 'trying'
    redis.call('HSET', account.key, 'state', 'trying', 'trial', token, 'trial_lane', lane.name, 'trial_job', id,
      'until_ms', lease_end)
  end
end

-- Up to `count` due ids of a queue, from a random place on, and then from its front.
local function due_somewhere(queue, now, count)
  local first = queue == QUEUE and redis.call('ZCOUNT', queue, '-inf', 1) or 0 -- see claim.lua
  local due = redis.call('ZCOUNT', queue, '-inf', now) - first
  if due <= 0 then return {} end
  local from = first + math.random(0, due - 1)
  local ids = redis.call('ZRANGE', queue, from, min(from + count, first + due) - 1)
  local rest = min(count - #ids, from - first)
  if rest > 0 then
    for _, id in ipairs(redis.call('ZRANGE', queue, first, first + rest - 1)) do ids[#ids + 1] = id end
  end
  return ids
end

-- The id of a due job of a batch's queue that may be tried, nil for none; and one that was kept back.
local function job_to_try(account, lane, queue, now)
  local kept = nil
  for _, id in ipairs(due_somewhere(queue, now, MOST_JOBS + 16)) do
    local waits = kept_back(account, lane, id)
    if not waits then return id, kept end
    kept = kept or waits == 'job' and id or nil
  end
  return nil, kept
end
