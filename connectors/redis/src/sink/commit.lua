local through, epoch = arg(), arg()
local read, moved, suppressed, aside, filtered = arg(), arg(), arg(), arg(), arg()

local claims, claim_ttl = count(), arg()
local claim_keys, claim_args = k, a
for i = 1, claims do
  local known = call('GET', KEYS[claim_keys + i])
  if known and known ~= ARGV[claim_args + i] then return {'claimed'} end
end
a, k = a + claims, k + claims

-- One letter per key of a record: `p` puts it whatever is there, `a` only where nothing is.
local wanted, guards = arg(), arg()
for i = 1, #guards do
  local found = call('TYPE', KEYS[k + i]).ok
  if found ~= 'none' then
    if found ~= wanted then return {'type', KEYS[k + i], found} end
    if guards:byte(i) == 97 then return {'there', KEYS[k + i]} end
  end
end

-- From here on it is written.
for i = 1, claims do
  local key, value = KEYS[claim_keys + i], ARGV[claim_args + i]
  if claim_ttl == '0' then call('SET', key, value) else call('SET', key, value, 'PX', claim_ttl) end
end
local made = arg()
if claims > 0 then
  call('HINCRBY', KEYS[12], 'identities', claims)
  call('HSETNX', KEYS[12], 'oldest', made)
  call('HSET', KEYS[12], 'sample', KEYS[claim_keys + 1])
end

for _ = 1, count() do
  local member, letter, raw = arg(), arg(), arg()
  if call('HSETNX', KEYS[4], member, letter) == 1 then
    call('HSET', KEYS[5], member, raw)
    call('ZADD', KEYS[3], 0, member)
  end
end

for _ = 1, count() do
  local member, settlement = arg(), arg()
  local letter = call('HGET', KEYS[4], member)
  if letter then
    call('HDEL', KEYS[4], member)
    call('HDEL', KEYS[5], member)
    call('ZREM', KEYS[3], member)
    call('HSET', KEYS[7], member, settlement .. '\n' .. letter)
    call('ZADD', KEYS[6], 0, member)
  end
end

local past, commit, history_max = arg(), arg(), count()
call('HSET', KEYS[10], epoch, commit)
if past == '' then call('ZADD', KEYS[9], epoch, epoch) else call('ZADD', KEYS[8], 0, past) end
for _ = 1, count() do call('ZADD', KEYS[11], 0, arg()) end
for _, kept in ipairs({KEYS[8], KEYS[9]}) do
  if call('ZCARD', kept) > history_max then
    local oldest = call('ZRANGE', kept, 0, 0)[1]
    call('ZREM', kept, oldest)
    call('HDEL', KEYS[10], (oldest:match('0*(%d+)$')))
  end
end

local ttl, columns = arg(), count()
local names = {}
for c = 1, columns do names[c] = arg() end
if wanted == 'hash' then
  for i = 1, #guards do
    local key, nulls = KEYS[k + i], arg()
    local set, unset = {key}, {key}
    for c = 1, columns do
      if nulls ~= '' and nulls:byte(c) == 49 then
        unset[#unset + 1] = names[c]
      else
        set[#set + 1] = names[c]
        set[#set + 1] = arg()
      end
    end
    if #set > 1 then call('HSET', unpack(set)) end
    if #unset > 1 then call('HDEL', unpack(unset)) end
    if ttl ~= '0' then call('PEXPIRE', key, ttl) end
  end
elseif wanted == 'string' then
  for i = 1, #guards do
    if ttl == '0' then call('SET', KEYS[k + i], arg()) else call('SET', KEYS[k + i], arg(), 'PX', ttl) end
  end
elseif wanted == 'stream' then
  for _ = 1, count() do
    local nulls = arg()
    local entry = {KEYS[k + 1], '*'}
    for c = 1, columns do
      if nulls == '' or nulls:byte(c) ~= 49 then
        entry[#entry + 1] = names[c]
        entry[#entry + 1] = arg()
      end
    end
    call('XADD', unpack(entry))
  end
end

call('HSET', KEYS[2], 'position', through, 'epoch', epoch, 'read', read, 'moved', moved, 'suppressed', suppressed,
  'set_aside', aside, 'filtered', filtered)
call('HSET', KEYS[1], 'committed', '1')
return {'done'}
