-- Takes claims back that hold exactly these places. KEYS are claims, ARGV their places.
local gone = 0
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i] then gone = gone + redis.call('DEL', KEYS[i]) end
end
return gone
