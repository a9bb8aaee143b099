-- Takes a split over, if the lease is still the caller's.
-- KEYS  1 lease · 2 split · 3 splits · 4 numbers of splits · 5 their names
local token, name = ARGV[1], ARGV[2]
local holder = redis.call('HGET', KEYS[1], 'token') or '0'
if holder ~= token then return {'fenced', holder} end
local found = redis.call('HGET', KEYS[2], 'token') or '0'
if tonumber(found) > tonumber(token) then return {'fenced', found} end
redis.call('SADD', KEYS[3], name)
redis.call('HSET', KEYS[2], 'token', token)
local take = redis.call('HINCRBY', KEYS[2], 'take', 1)
local number = redis.call('HGET', KEYS[4], name)
if not number then
  number = redis.call('HLEN', KEYS[4]) + 1
  redis.call('HSET', KEYS[4], name, number)
  redis.call('HSET', KEYS[5], number, name)
end
local stood = redis.call('HMGET', KEYS[2], 'position', 'epoch', 'read', 'moved', 'suppressed', 'set_aside', 'filtered')
return {'taken', take, number, stood}
