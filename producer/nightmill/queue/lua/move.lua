-- Change the state of a batch (see flag.lua).
-- ARGV[1]  batch
-- ARGV[2]  move: pause, resume, cancel, expire, adjust or reopen
-- ARGV[3]  why, for a person
-- Returns  {the state after the move, 1 when the table has the move; else 0: nothing was changed;
--          -1: rows of its ended jobs are being written now, the move is possible after that}.
local opens = { adjust = 'expired', reopen = 'cancelled' }
local ended_as = opens[ARGV[2]]
if ended_as and redis.call('HGET', BATCH .. ARGV[1], 'flag') == ended_as
    and redis.call('EXISTS', CANCELLATION .. ARGV[1]) == 1 then
  return { ended_as, -1 }
end
local state, moved = move_batch(ARGV[1], ARGV[2], ARGV[3])
return { state, moved and 1 or 0 }
