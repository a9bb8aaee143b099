-- The number of a split, given once. It is drawn at random: claims of a process that did not know that the server was emptied
-- stay behind, under a number that no split of today may have.
-- KEYS  1 numbers · 2 names. ARGV  1 split · 2 what was drawn
local number = redis.call('HGET', KEYS[1], ARGV[1])
if not number then
  number = tonumber(ARGV[2])
  while redis.call('HGET', KEYS[2], number) do number = (number + 1) % 4294967296 end
  redis.call('HSET', KEYS[1], ARGV[1], number)
  redis.call('HSET', KEYS[2], number, ARGV[1])
end
return number
