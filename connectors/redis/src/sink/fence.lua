-- Whether the split is still the caller's, and stands where it says.
local holder = call('HGET', KEYS[1], 'token') or '0'
if holder ~= token then return {'fenced', holder} end
local stood = call('HMGET', KEYS[2], 'token', 'take', 'position', 'epoch')
if stood[1] ~= token then return {'fenced', stood[1] or '0'} end
if stood[2] ~= take then return {'retaken'} end
local position = '-'
if stood[3] then position = '+' .. stood[3] end
if position ~= after or (stood[4] or '0') ~= before then return {'diverged'} end
