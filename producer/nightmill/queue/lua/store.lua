-- Note which results store is used with this Redis. The first store is kept: one Redis with two stores
-- would have jobs called twice, and rows where nobody looks for them.
-- ARGV[1]  identity of the caller's store
-- ARGV[2]  where it is, for a person
-- ARGV[3]  1 = take the place of another store that is noted; else 0
-- Returns  {identity of the store that is noted now, where it is}.
local noted = redis.call('HMGET', STORE, 'id', 'where')
if not noted[1] or ARGV[3] == '1' then
  noted = { ARGV[1], ARGV[2] }
  redis.call('HSET', STORE, 'id', ARGV[1], 'where', ARGV[2])
end
return { noted[1], noted[2] or '?' }
