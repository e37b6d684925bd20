-- What a claim finds about a job: whether it runs, runs isolated, or ends without a call.

-- A job that runs isolated proves there that it ends processes. This bound is for a job whose answer
-- ends the worker itself. It is high: a person who kills workers must not make a good job poison.
local TOO_MANY_DEATHS = 20
local MOST_CALLS = 1e9 -- of one job

-- The last holder's lease ran out during a call: add a lost attempt to the history, count the death.
local function note_death(id, record, now)
  local claimed_at = bounded(record.claimed_at, 0, now, now)
  add_attempt(id, cjson.encode({
    n = bounded(record.calls, 0, MOST_CALLS, 0), started_at = claimed_at, outcome = 'lost',
    counted = false, worker = record.worker, duration_ms = now - claimed_at,
  }))
  record.deaths = (tonumber(record.deaths) or 0) + 1
end

local function verdict_on(id, record, aborts, now)
  if aborts[id] then return 'aborted' end
  if record.judged == '1' and record.state ~= 'in_flight' then return 'refused' end
  if record.state == 'in_flight' then note_death(id, record, now) end
  local deaths = tonumber(record.deaths) or 0
  if deaths >= TOO_MANY_DEATHS then return 'poison' end
  return deaths >= 2 and 'alone' or 'run'
end
