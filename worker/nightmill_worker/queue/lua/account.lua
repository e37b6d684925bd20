-- Which calls may be made at all: an account (endpoint and credential) may be stopped, and each of its
-- lanes may be held or stopped.
--
-- The account's hash has no `state` while it is open. stopped: no call is made. trial: the next claim
-- takes one job. trying: that job is in flight under the token `trial`. Only its own answer decides: an
-- answer to a call that was sent before says nothing about the account of now.
--
-- A refusal with the outcome `suspect` may concern the account, the model, or this one request. What is
-- known of a lane with such refusals is JSON in the hash HELD .. account, by model:
--   state     held: its jobs are tried one at a time. stopped: none is, until a person resumes it
--             or, when there was no other job to try (fresh is 0), until another one comes.
--             passed: such refusals concerned their own jobs, so all jobs go on
--   kind      of the refusal: its status, and where it has one, its error type; reason: as text
--   own       whether such a refusal may concern one job
--   since     when it began, ms; sent: when the first refused call was claimed, ms; calls: how many calls
--             the lane had made then
--   jobs      id -> when it was refused, ms. As soon as a call that was sent later succeeds, such a job
--             fails without another call. With 0 it does not fail: others are only tried before it
--   judged    id -> 1: jobs that fail when they are claimed next
--   tried, rounds, fresh   refused trials: of this kind; of any; of jobs that were not refused before.
--             In a lane that goes on: calls that were sent since and refused
--   trial, trial_job   the token and the job of the last trial
--   passed    kind -> when such refusals were last found to concern their own jobs, ms
--   cleared   when the lane went on, ms; answers to earlier calls say nothing about it
--   stopped   when it was stopped last, ms, 0 for never
-- The record of a job has `refused_at`, ms, and `judged`.

local MOST_JOBS = 64 -- that a lane remembers
local HOLD_STATES = { held = true, stopped = true, passed = true }
local HOLD_NUMBERS = { 'since', 'sent', 'calls', 'tried', 'rounds', 'fresh', 'cleared', 'stopped' }
local HOLD_TEXTS = { 'kind', 'reason', 'trial', 'trial_job' }
local HOLD_TABLES = { 'jobs', 'judged', 'passed' }

-- Whether the scripts can work with what is stored of a lane. If not, the lane is open.
local function is_hold(hold)
  if not (hold and HOLD_STATES[hold.state] and finite(hold, HOLD_NUMBERS)) then return false end
  for _, name in ipairs(HOLD_TEXTS) do
    if type(hold[name]) ~= 'string' then return false end
  end
  for _, name in ipairs(HOLD_TABLES) do
    if type(hold[name]) ~= 'table' then return false end
  end
  return true
end

local function open_account(name)
  local key = ACCOUNT .. name
  local account = { name = name, key = key, fields = hash(key), on_hold = {}, changed = {} }
  for model, text in pairs(hash(HELD .. name)) do
    local hold = decoded(text)
    if is_hold(hold) then account.on_hold[model] = hold end
  end
  return account
end

local function save_holds(account)
  for model in pairs(account.changed) do
    local hold = account.on_hold[model]
    if hold then
      redis.call('HSET', HELD .. account.name, model, cjson.encode(hold))
    else
      redis.call('HDEL', HELD .. account.name, model)
    end
  end
end
