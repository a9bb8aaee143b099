-- Gives the lease to the next holder, unless positions were committed under another definition. A group that has it
-- keeps it.
-- KEYS  1 lease
local holder, definition, tenure = ARGV[1], ARGV[2], ARGV[3]
local was = redis.call('HMGET', KEYS[1], 'definition', 'committed', 'holder', 'token')
if was[1] and was[1] ~= definition and was[2] then return {'other'} end
if tenure == 'group' and was[3] == holder and was[1] == definition then return {'granted', was[4]} end
local token = redis.call('HINCRBY', KEYS[1], 'token', 1)
redis.call('HSET', KEYS[1], 'holder', holder, 'definition', definition)
return {'granted', token}
