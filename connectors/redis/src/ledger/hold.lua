-- Says who holds the lease, unless a later holder said so. KEYS  1 holder. ARGV  1 token
local held = tonumber(redis.call('GET', KEYS[1]) or 0)
if held > tonumber(ARGV[1]) then return {'fenced', held} end
redis.call('SET', KEYS[1], ARGV[1])
return {'held'}
