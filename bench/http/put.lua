-- The same requests that the sink makes: a URL of its own for each, a body of the same length.
local id = 1000000
request = function()
   id = id + 1
   local body = string.format('{"id":%d,"name":"customer %06d","amount":1234.5,"note":"a note that is as long as notes are, mostly, in such a table of orders"}', id, id % 1000000)
   return wrk.format("PUT", "/orders/" .. id, { ["Content-Type"] = "application/json" }, body)
end
