-- Take back the count of a request that did not leave.
--
-- ask.orders   keys of the order counts that it was added to
-- ask.breaker  the breaker whose probe it was, or empty
local ask = cjson.decode(ARGV[1])
for _, key in ipairs(ask.orders) do
  if tonumber(redis.call('GET', key) or '0') > 0 then redis.call('DECR', key) end
end
if ask.breaker ~= '' then redis.call('DEL', ask.breaker .. ':probe') end
return 1
