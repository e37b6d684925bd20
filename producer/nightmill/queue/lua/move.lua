-- Change the state of a batch (see flag.lua).
-- ARGV[1]  batch
-- ARGV[2]  move: pause, resume, cancel, expire or adjust
-- ARGV[3]  why, for a person
-- Returns  {the state after the move, 1 when the table has the move; else 0: nothing was changed;
--          -1: rows of its expired jobs are being written now, the move is possible after that}.
if ARGV[2] == 'adjust' and redis.call('HGET', BATCH .. ARGV[1], 'flag') == 'expired'
    and redis.call('EXISTS', CANCELLATION .. ARGV[1]) == 1 then
  return { 'expired', -1 }
end
local state, moved = move_batch(ARGV[1], ARGV[2], ARGV[3])
return { state, moved and 1 or 0 }
