-- Claims what was taken back, and what a split holds that has no name, unless a later holder has claimed. Tells the claimant of
-- each that is somebody's by now.
-- KEYS  1 holder · 2 names of splits · the others are claims.
-- ARGV  1 token · 2 how long it stays, 0 for ever · the others are places
local function put(key, value)
  if ARGV[2] == '0' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', ARGV[2]) end
end
local function somebody(first)
  return first and first ~= '-' and redis.call('HGET', KEYS[2], (struct.unpack('>I4', first)))
end
local held = tonumber(redis.call('GET', KEYS[1]) or 0)
if held > tonumber(ARGV[1]) then return {'fenced', held} end
local firsts = {}
for i = 3, #KEYS do
  local first = redis.call('GET', KEYS[i])
  if somebody(first) then
    firsts[i - 2] = first
  else
    put(KEYS[i], ARGV[i])
    firsts[i - 2] = false
  end
end
return {'claimed', firsts}
