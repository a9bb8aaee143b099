-- Takes claims back that hold exactly these places, unless a later holder has claimed. A claim that was taken back stays as
-- one of nobody's, so that an earlier holder who wakes up late does not get it.
-- KEYS  1 holder · the others are claims. ARGV  1 token · 2 how long it stays, 0 for ever · the others are places
local function put(key, value)
  if ARGV[2] == '0' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', ARGV[2]) end
end
local held = tonumber(redis.call('GET', KEYS[1]) or 0)
if held > tonumber(ARGV[1]) then return {'fenced', held} end
local gone = 0
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i + 1] then
    put(KEYS[i], '-')
    gone = gone + 1
  end
end
return {'gone', gone}
