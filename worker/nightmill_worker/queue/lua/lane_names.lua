-- Which lane a model has. Models that share one limit of the endpoint have one lane, and calls in fast
-- mode have one of their own, since they have a limit of their own.

local FAST_LANE = ' fast' -- ends the name of such a lane
local LARGEST_PAYLOAD = 33 * 1024 * 1024 -- bytes: the largest MAX_PAYLOAD_BYTES and the job's envelope
local LARGEST_DECODED = 65536 -- bytes: decoding takes Redis 5 us a kB
local SIDESTEP_MS = 250

-- `groups` are {lane, model, 0} or {lane, start of models, 1}; the first one that fits counts.
local function lane_name(groups, model, fast)
  local name = model
  for _, group in ipairs(groups or NONE) do
    local named, start, open = group[1], group[2], group[3] == 1
    if model == start or open and string.sub(model, 1, #start) == start then
      name = named
      break
    end
  end
  return fast and name .. FAST_LANE or name
end

-- The request in a decoded job.
local function request_in(job)
  local params = type(job.k) == 'table' and job.k.params or nil
  if params == nil and type(job.a) == 'table' then params = job.a[1] end
  return params
end

-- Whether a request asks for fast mode. Inside a text, the quotes are escaped, but a tool's input may have
-- such a field too. A long payload is not decoded.
local function is_fast(payload)
  if not string.find(payload, '"speed"', 1, true) then return false end
  if not string.find(payload, '"speed"%s*:%s*"fast"') then return false end
  if #payload > LARGEST_DECODED then return true end
  local ok, job = pcall(cjson.decode, payload)
  if not ok or type(job) ~= 'table' then return false end
  local params = request_in(job)
  return type(params) == 'table' and params.speed == 'fast'
end

-- A model's view of a lane that it shares: trials and holds concern the model, limits concern all.
local function view_of(lane, model)
  local own = { model = model, tried = false, last = false, counts = false }
  return setmetatable(own, { __index = lane, __newindex = lane })
end

-- Return a job's function and model, the default one when it names none. A batch's queue has one `model`;
-- in the shared queue, the payload names it. Returns nil when the payload cannot be read.
local function read(payload, model, default)
  if model and string.find(payload, '^{"t":null,"f":"generate",') then return 'generate', model end
  if string.sub(payload, 1, 1) ~= '{' or #payload > LARGEST_PAYLOAD then return nil end
  local ok, job = pcall(cjson.decode, payload)
  if not ok or type(job) ~= 'table' or type(job.f) ~= 'string' then return nil end
  local params = request_in(job)
  local named = type(params) == 'table' and type(params.model) == 'string' and params.model
  return job.f, model or named and is_utf8(named) and named or default
end

-- The shared queue mixes models. When all jobs at its head belong to closed lanes, put them behind the
-- others for 250 ms, at most once in 250 ms.
local function sidestep(queue, ids, now)
  if not redis.call('SET', SIDESTEP, 1, 'NX', 'PX', SIDESTEP_MS) then
    -- A key that lives longer was set before Redis's clock went back.
    if redis.call('PTTL', SIDESTEP) > SIDESTEP_MS then redis.call('DEL', SIDESTEP) end
    return
  end
  local later = {}
  for i, id in ipairs(ids) do later[2 * i - 1], later[2 * i] = now + SIDESTEP_MS, id end
  redis.call('ZADD', queue, 'XX', unpack(later))
end
