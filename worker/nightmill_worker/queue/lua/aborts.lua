local AT_ONCE = 100

-- What arq's abort() has asked for. Returns a list of the ids, AT_ONCE at most, and a set of all.
local function read_aborts()
  local aborted, aborts, ids = {}, {}, redis.call('ZRANGE', ABORTS, 0, AT_ONCE - 1)
  if #ids == AT_ONCE then -- there may be more: each job that is considered is looked up
    setmetatable(aborts, { __index = function(_, id) return redis.call('ZSCORE', ABORTS, id) end })
  end
  for _, id in ipairs(ids) do
    if is_utf8(id) and redis.call('EXISTS', PAYLOAD .. id) == 1 then
      aborted[#aborted + 1], aborts[id] = id, true
      -- A queued job that is to be cancelled goes to the front: its owner need not wait for its turn.
      if redis.call('EXISTS', IN_PROGRESS .. id) == 0 then redis.call('ZADD', QUEUE, 'XX', 2, id) end
    else
      redis.call('ZREM', ABORTS, id) -- the job is finished, or was never there
    end
  end
  return aborted, aborts
end

