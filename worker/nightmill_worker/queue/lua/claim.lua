-- Claim jobs: take each with its lease, its slot and its tokens, as many as the lanes grant now.
-- ARGV[1]  JSON: worker, seq (this claim's number), account (endpoint + credential fingerprint),
--          want (jobs at most), lease_ms, functions (names that workers run), model (default),
--          groups ([lane, model or start of models, 1 for a start]: models that share one limit),
--          only? (a batch: claim no other jobs), rehearsal? (claim only jobs of rehearsals; else none),
--          share? (of a lane, kept for interactive calls), keep? (slots of `want` kept for them)
-- ARGV[2]  JSON: the orders of a lane that has never been used
-- Returns  {now_ms, wait_ms until the next claim (over 1,000: nothing is waited for), JSON: aborts (job ids),
--          line (the account's hash), held (model -> {held or stopped, why}) and accepts? (batch -> accept_id),
--          job, job, ...}, each job
--          {id, token, payload or "", queue, model, counted, refusals, snoozes, calls, verdict,
--          reservation, attempts as JSON, the sums of attempts that were cut out as JSON or "",
--          outages, failed_at or "0", lane}.
-- verdict: run | alone (run it in the isolation process) | aborted | refused (it fails with its last error: calls
--          that were sent after it succeeded) | poison (workers died too often under it) | unreadable |
--          gone (its payload was evicted, deleted or expired).
-- A repeated seq gets the same jobs again: the answer to the first claim was lost.
local ask = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moment = time[1] .. '.' .. time[2] -- part of tokens: two claims never have the same one
local lease_end = now + ask.lease_ms
local account = open_account(ask.account)
local grant_key = GRANT .. ask.worker
local this_claim = ask.seq .. ' '
local counts = tally()
local IDLE_MS = 1200 -- until the next claim, when neither a job nor a lane is waited for
local lanes, lanes_of, batches, granted, leased, wait = {}, {}, {}, {}, {}, IDLE_MS
local LONGEST_LEASE_MS = 3600000 -- the largest LEASE_S
local PUT_OFF_MS = 60000 -- how long a job waits that could not be granted
local REVIVED = 10 -- due jobs of a full batch that a claim looks at
local KEPT_BACK_MS = 1000 -- how long a refused job waits for others to be tried
local HELD_MS = 250 -- until the next claim, while a trial is under way
local want = wanted(account, ask.want, now)
local tries = tries_jobs(account) -- whether one job at a time is tried somewhere
local tokens = 0
ask.share = bounded(ask.share, 0, 0.9, 0)

-- The lane of a model, or the model's view of a lane that it shares; see lane_names.lua.
local function lane_of(model, fast)
  local known = fast and model .. '\n' or model
  if lanes_of[known] then return lanes_of[known] end
  local name = lane_name(ask.groups, model, fast)
  if not lanes[name] then
    lanes[name] = open_lane(ask.account, name, now / 1000, ARGV[2])
    count_slots(lanes[name], now / 1000)
  end
  lanes_of[known] = name == model and lanes[name] or view_of(lanes[name], model)
  note_lane_trial(account, lanes_of[known])
  return lanes_of[known]
end

local function batch_named(name)
  batches[name] = batches[name] or open_batch(name, now)
  return batches[name]
end

local function granted_job(id, payload, queue, model, lane, record, verdict, reservation)
  local attempts, cut = '[]', nil
  if record.calls > 1 then
    attempts = '[' .. table.concat(redis.call('LRANGE', ATTEMPTS .. id, 0, -1), ',') .. ']'
    cut = redis.call('HGET', RECORD .. id, 'cut')
  end
  return { id, record.token, payload, queue, model, whole(record.counted), whole(record.refusals),
    whole(record.snoozes), tostring(record.calls), verdict, reservation, attempts, cut or '',
    whole(record.outages), whole(record.failed_at), lane }
end

-- `unfit` is the verdict on a job that cannot run: gone or unreadable.
local function grant(id, payload, queue, batch, lane, guess, aborts, unfit)
  -- `moment` keeps the token unique when a claim is repeated after its grant was forgotten.
  tokens = tokens + 1
  local token = ask.worker .. ':' .. ask.seq .. ':' .. tokens .. ':' .. moment .. shares.mark_of(batch)
  if not redis.call('SET', IN_PROGRESS .. id, token, 'NX', 'PX', ask.lease_ms) then
    local left = redis.call('PTTL', IN_PROGRESS .. id)
    if left > LONGEST_LEASE_MS then -- set before Redis's clock went back; its worker, if alive, renews it
      left = ask.lease_ms
      redis.call('PEXPIRE', IN_PROGRESS .. id, left)
    end
    redis.call('ZADD', queue, now + max(1, left), id)
    return
  end
  local record = hash(RECORD .. id)
  local verdict = unfit or verdict_on(id, record, aborts, now)
  if record.next then -- its worker died, and its request was replaced during that call: see replace.lua
    counts.add(batch.name, 'in_flight', -1)
    return put_request(id, batch.name, queue, record.next_queue or queue, record.next, now)
  end
  if record.state ~= 'in_flight' then
    if record.state then counts.add(batch.name, record.state, -1) end
    counts.add(batch.name, 'in_flight', 1)
  end
  if record.state ~= 'in_flight' then count_granted(batch) end
  record.token, record.calls = token, bounded(record.calls, 0, MOST_CALLS, 0) + 1
  redis.call('HSET', RECORD .. id, 'state', 'in_flight', 'token', token, 'worker', ask.worker,
    'calls', record.calls, 'claimed_at', now)
  if record.judged and verdict ~= 'refused' then redis.call('HDEL', RECORD .. id, 'judged') end
  if record.deaths then redis.call('HSET', RECORD .. id, 'deaths', record.deaths) end
  if queue == QUEUE then redis.call('PERSIST', PAYLOAD .. id) end -- arq gives a payload a day to live
  local reservation = take(lane, guess, token, now / 1000, lease_end)
  payers.take(id, payload, batch, now)
  shares.note_call(ask, lane, batch, token, lease_end, now)
  note_trial(account, lane, id, verdict, token, lease_end)
  granted[#granted + 1] = granted_job(id, payload, queue, lane.model, lane.name, record, verdict, reservation)
  leased[queue] = leased[queue] or {}
  table.insert(leased[queue], lease_end)
  table.insert(leased[queue], id)
end

-- Drop a job whose payload was evicted, deleted or expired.
local function drop(id, queue)
  local state = redis.call('HGET', RECORD .. id, 'state')
  if state then counts.add(batch_of(queue), state, -1) end
  redis.call('ZREM', queue, id)
  redis.call('DEL', RECORD .. id, ATTEMPTS .. id)
end

-- Return the gate that keeps such a call waiting, nil for none, and note it for the law. Slots that are
-- kept free for interactive calls are no limit of the lane, and not noted.
local function closed_for(lane, guess, batch)
  local closed, ms = closed_gate(lane, guess, now / 1000)
  local kept = not closed and lane.hot.asked_at and shares.kept_slots(lane, ask.share, now) or 0
  if kept > 0 and lane.in_flight + kept >= lane.orders.window and not shares.is_interactive(batch) then return 'kept' end
  if closed then
    lane.bound = closed
    wait = min(wait, math.ceil(ms))
  end
  return closed
end

-- Keep a refused job back for others to be tried first. `last` is it, when there are none.
local function keep_back(lane, id, queue, batch, known)
  lane.last = lane.last or { id, queue, batch, known }
  redis.call('ZADD', queue, 'XX', now + KEPT_BACK_MS, id)
end

-- Grant one due job. Returns the gate that keeps it waiting, nil when the job needs no more attention.
-- `last`: there is no other job to try.
local function consider(id, payload, queue, batch, known, aborts, last)
  -- Feeding the batch's source again brings such a job back.
  if not payload and queue ~= QUEUE then return drop(id, queue) end
  local fn, model = read(payload or '', known, ask.model)
  if fn and not ask.functions[fn] or not is_utf8(id) then
    redis.call('ZREM', queue, id)
    redis.call('ZADD', FOREIGN, now, id)
    return
  end
  local lane = lane_of(model or ask.model, payload and is_fast(payload))
  local waits = not last and not aborts[id] and kept_back(account, lane, id)
  if waits == 'job' then return keep_back(lane, id, queue, batch, known) end
  if waits then
    wait = min(wait, HELD_MS)
    return waits
  end
  local guess = guess_of(lane, payload or '', batch.name)
  local closed = closed_for(lane, guess, batch)
  if closed then return closed end
  if not aborts[id] then -- one that is aborted ends without a call: no budget holds it
    if not affords(batch, payload or '') then return 'budget' end
    local holds, whole_batch = payers.hold(id, payload or '', queue, batch, now)
    if holds then return whole_batch end
  end
  if payload and not fn then redis.call('HSET', QUARANTINE, id, payload) end
  local unfit = not payload and 'gone' or not fn and 'unreadable'
  grant(id, fn and payload or '', queue, batch, lane, guess, aborts, unfit)
end

-- A job that could not be granted is due again later. It must not keep the jobs behind it waiting.
local function put_off(queue, id)
  local holder = redis.call('GET', IN_PROGRESS .. id)
  if holder and string.find(holder, ask.worker .. ':' .. ask.seq .. ':', 1, true) == 1 then
    redis.call('DEL', IN_PROGRESS .. id)
  end
  redis.call('ZADD', queue, 'XX', now + PUT_OFF_MS, id)
end

-- How many jobs to read from a queue. A batch's queue has one model: when that lane is closed, none.
local function share_to_read(model, batch, share)
  share = max(0, min(share, batch.room))
  if not model then return share end
  local lane = lane_of(model)
  if lane_waits(account, lane) then
    wait = min(wait, HELD_MS)
    return share
  end
  if closed_for(lane, guess_of(lane, '', batch.name), batch) then return 0 end
  return min(share, jobs_to_read(lane))
end

-- The due ids of a queue to look at: the first ones, or those to try while a trial is waited for.
local function due_ids(queue, batch, model, share)
  local lane = model and lane_of(model)
  if lane and lane_waits(account, lane) then return judged_jobs(account, lane, queue, now, share) end
  if lane and waits_for_trial(account, lane) then
    local id, kept = job_to_try(account, lane, queue, now)
    if kept and not id then lane.last = lane.last or { kept, queue, batch, model } end
    return { id }
  end
  if not model and tries then return due_somewhere(queue, now, share) end
  -- Ids whose score is 1 are skipped: arq's abort() sets it before it records the abort.
  return redis.call('ZRANGEBYSCORE', queue, queue == QUEUE and '(1' or '-inf', now, 'LIMIT', 0, share)
end

-- Those of `ids` that are counted as in flight already: jobs whose workers died.
local function in_flight_of(ids)
  local found = {}
  for _, id in ipairs(ids) do
    if redis.call('HGET', RECORD .. id, 'state') == 'in_flight' then found[#found + 1] = id end
  end
  return found
end

local function claim_from(queue, batch, model, most, aborts)
  -- Jobs whose workers died have their room: without them, a batch that they fill would never go on. Each
  -- sweep puts them to the front of their queue.
  local full = batch.room <= 0
  local share = full and min(most, REVIVED) or share_to_read(model, batch, most)
  if share == 0 then return end
  local ids = due_ids(queue, batch, model, share)
  if full then ids = in_flight_of(ids) end
  if #ids == 0 then
    local due = redis.call('ZRANGEBYSCORE', queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    if due then
      wait = min(wait, max(1, math.ceil(tonumber(due) - now)))
    elseif queue ~= QUEUE and redis.call('EXISTS', queue) == 0 then
      redis.call('SREM', QUEUES, queue)
    end
    return
  end
  local names, before = {}, #granted
  for i, id in ipairs(ids) do names[i] = PAYLOAD .. id end
  local payloads = redis.call('MGET', unpack(names))
  for i, id in ipairs(ids) do
    local ok, closed = guarded(consider, id, payloads[i], queue, batch, model, aborts)
    if not ok then guarded(put_off, queue, id) end
    if closed and queue ~= QUEUE then return end
  end
  if queue == QUEUE and #ids == share and #granted == before then sidestep(queue, ids, now) end
end

-- A job in flight stays in its queue with the end of its lease as its due time, so claims do not find
-- it before.
local function write_leases()
  for queue, scores in pairs(leased) do guarded(redis.call, 'ZADD', queue, 'XX', unpack(scores)) end
  leased = {}
end

-- A refused job is tried again when the lane has no other job: none is due, and none is in flight.
local function try_last(lane, aborts)
  if not lane.last or lane.in_flight > 0 or #granted >= want then return end
  local id, queue, batch, model = unpack(lane.last)
  local hold = account.on_hold[lane.model]
  if batch.room <= 0 or hold and hold.state == 'stopped' then return end
  guarded(consider, id, redis.call('GET', PAYLOAD .. id), queue, batch, model, aborts, true)
end

-- Calls that clients wait for come first, as many as their lanes have for them.
local function claim_interactive(queues, aborts)
  for _, each in ipairs(queues) do
    if each.model and shares.is_interactive(each.batch) and redis.call('EXISTS', each.queue) == 1 then
      local lane, before = lane_of(each.model), #granted
      local most = min(want - before, math.floor(shares.credit_of(lane, ask.share)))
      if most > 0 then guarded(claim_from, each.queue, each.batch, each.model, most, aborts) end
      shares.note_interactive(lane, ask.share, #granted - before, now)
    end
  end
end

-- How many more jobs of a queue this claim may grant: batches leave slots of the worker free as well.
local function left_for(each)
  local left = want - #granted
  if not ask.keep or not each.model or shares.is_interactive(each.batch) then return left end
  return left - shares.kept_here(ask, lane_of(each.model), now)
end

-- In the first round, each queue gets a share by weight. In the second round, queues that have more
-- jobs get what is left.
local function claim(aborts)
  local queues, total = shares.open_queues(ask, batch_named, tonumber(string.match(moment, '%d+$')) + ask.seq, tries)
  if ask.share > 0 then claim_interactive(queues, aborts) end
  for round = 1, 2 do
    for _, each in ipairs(queues) do
      local left = left_for(each)
      if want <= #granted then break end
      local fair = #queues > 1 and math.floor(want * each.weight / total + math.random()) or left
      local share = round == 1 and min(left, fair) or left
      if share > 0 and (round == 1 or #queues > 1) then
        guarded(claim_from, each.queue, each.batch, each.model, share, aborts)
      end
    end
    write_leases()
  end
  for _, lane in pairs(lanes_of) do try_last(lane, aborts) end
  write_leases()
end

-- Answer a repeated claim with the jobs that it got before.
local function grant_again(packed)
  for _, job in ipairs(cmsgpack.unpack(packed)) do
    local id, token, queue, model, verdict, reservation = unpack(job)
    local payload = redis.call('GET', PAYLOAD .. id)
    if holds(id, token) and (payload or verdict == 'gone') then
      local shown = verdict == 'unreadable' and '' or payload or ''
      local record = hash(RECORD .. id)
      record.calls = bounded(record.calls, 0, MOST_CALLS, 0)
      granted[#granted + 1] = granted_job(id, shown, queue, model, lane_name(ask.groups, model, is_fast(shown)), record, verdict, reservation)
    end
  end
end

local function remember()
  local jobs = {}
  for i, job in ipairs(granted) do jobs[i] = { job[1], job[2], job[4], job[5], job[10], job[11] } end
  redis.call('SET', grant_key, this_claim .. cmsgpack.pack(jobs), 'PX', ask.lease_ms)
end

local function write_lanes()
  for _, lane in pairs(lanes) do
    local bound = lane.hot.bound
    if lane.bound and bound[lane.bound] then bound[lane.bound] = bound[lane.bound] + 1 end
    guarded(save_lane, lane)
  end
end

-- The acceptances of batches with granted jobs, nil for none: workers read those that they do not know.
local function accepts()
  local found
  for _, job in ipairs(granted) do
    local batch = job[4] ~= QUEUE and batch_named(batch_of(job[4]))
    if batch and batch.accept_id then
      found = found or {}
      found[batch.name] = batch.accept_id
    end
  end
  return found
end

local aborted, aborts = read_aborts()
local last = redis.call('GET', grant_key)
if last and string.sub(last, 1, #this_claim) == this_claim then
  guarded(grant_again, string.sub(last, #this_claim + 1))
elseif want > 0 then
  claim(aborts)
  if #granted > 0 then remember() end
  write_lanes()
  counts.write()
  guarded(save_holds, account)
end
local about = { aborts = aborted, line = account.fields, held = shown_holds(account), accepts = accepts() }
return { now, wait, cjson.encode(about), unpack(granted) }
