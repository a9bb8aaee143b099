-- One commit: looks first, then writes. Nothing that is written can fail, so it is all of it or none.
--
-- KEYS  1 lease · 2 split · 3 letters · 4 letter · 5 raw · 6 settled · 7 settlement · 8 past · 9 in place · 10 commits
--       11 again · 12 what the ledger holds · then the keys of claims · then the keys of records
local a, k = 0, 12
local function arg()
  a = a + 1
  return ARGV[a]
end
local function count() return tonumber(arg()) end
local call = redis.call

local token, take, after, before = arg(), arg(), arg(), arg()
