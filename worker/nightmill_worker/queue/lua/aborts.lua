-- What arq's abort() has asked for. Returns a list of the ids, and the same as a set.
local function read_aborts()
  local aborted, aborts = {}, {}
  for _, id in ipairs(redis.call('ZRANGE', ABORTS, 0, 99)) do
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

