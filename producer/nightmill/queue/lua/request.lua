-- Shared by all scripts that give a job another request: its calls so far stay in its history, but the
-- new request has all its attempts, and no call of it has been refused. The job is queued again, due at
-- `due`; the caller has counted it out of its old state.
-- `from`: the queue that it is in. `queue`: that of the new request's model.
local function put_request(id, batch, from, queue, payload, due)
  redis.call('SET', PAYLOAD .. id, payload)
  redis.call('DEL', IN_PROGRESS .. id)
  redis.call('HDEL', RECORD .. id, 'state', 'token', 'counted', 'refusals', 'deaths', 'judged', 'refused_at',
    'failed_at', 'outages', 'answered', 'ending', 'next', 'next_queue', 'chain')
  if from ~= queue then redis.call('ZREM', from, id) end
  redis.call('ZADD', queue, due, id)
  redis.call('SADD', QUEUES, queue)
  redis.call('SADD', QUEUES_OF .. batch, queue)
end
