-- Shared by all scripts that change the state of a batch, its field `flag`. `batch_moves` is the table
-- of nightmill/records/state.py: '<state> <move>' -> the state after it. A move that the table does not
-- have changes nothing: what ended stays ended.
-- Returns  the state after the move, and whether the table has it.
local function move_batch(batch, move, reason)
  local key, moves = BATCH .. batch, batch_moves()
  local before = redis.call('HGET', key, 'flag') or 'open'
  local after = moves[before .. ' ' .. move]
  if not after and not moves.states[before] then -- another program wrote it: such a batch is held
    after = moves['paused ' .. move]
  end
  if not after then return before, false end
  if after == 'open' then
    redis.call('HDEL', key, 'flag', 'reason', 'streak')
    redis.pcall('PUBLISH', WAKE, 'resumed')
  else
    redis.call('HSET', key, 'flag', after, 'reason', reason)
  end
  return after, true
end
