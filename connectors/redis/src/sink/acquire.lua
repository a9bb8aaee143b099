-- Gives the lease to the next holder, unless positions were committed under another definition.
-- KEYS  1 lease
local holder, definition = ARGV[1], ARGV[2]
local was = redis.call('HMGET', KEYS[1], 'definition', 'committed')
if was[1] and was[1] ~= definition and was[2] then return {'other'} end
local token = redis.call('HINCRBY', KEYS[1], 'token', 1)
redis.call('HSET', KEYS[1], 'holder', holder, 'definition', definition)
return {'granted', token}
