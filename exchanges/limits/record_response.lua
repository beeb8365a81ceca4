-- Record what the response to a request says about the limits.
--
-- told.keys              names of the keys (also in KEYS, as Redis wants it)
-- told.stop_ms           stop of the whole address, told.stop_of_kind_ms: of this kind of call
-- told.spent             weight to count now, told.used_weight: the exchange's count (0: unknown)
-- told.orders            for each order limit: key, count (the exchange's, 0: unknown)
-- told.outcome           "failed", "sound", or "none" if it says nothing about the exchange
-- told.breaker           failures, window_ms, open_ms
-- told.counter           field of the counters' hash to add one to, or empty
--
-- Reply: "opened" or "closed" if the breaker has changed, else an empty string.
local told = cjson.decode(ARGV[1])
local keys = told.keys

for key, stop in pairs({[keys.stop] = told.stop_ms, [keys.stop_of_kind] = told.stop_of_kind_ms}) do
  if stop > 0 and stop > redis.call('PTTL', key) then redis.call('SET', key, '1', 'PX', stop) end
end

local used = redis.call('INCRBY', keys.weight, told.spent)
redis.call('PEXPIRE', keys.weight, 120000)
if told.used_weight > used then redis.call('SET', keys.weight, told.used_weight, 'PX', 120000) end
for _, order in ipairs(told.orders) do
  if order.count > tonumber(redis.call('GET', order.key) or '0') then
    redis.call('SET', order.key, order.count, 'KEEPTTL')
  end
end
if told.counter ~= '' then redis.call('HINCRBY', keys.counters, told.counter, 1) end

local breaker = keys.breaker
if told.outcome == 'failed' then
  local failures = redis.call('INCR', breaker .. ':failures')
  if failures == 1 then
    redis.call('PEXPIRE', breaker .. ':failures', told.breaker.window_ms)
  end
  local was_probe = redis.call('DEL', breaker .. ':probe') == 1
  if was_probe or failures >= told.breaker.failures then
    redis.call('HSET', breaker, 'open', '1')
    redis.call('SET', breaker .. ':pause', '1', 'PX', told.breaker.open_ms)
    redis.call('DEL', breaker .. ':failures')
    return 'opened'
  end
elseif told.outcome == 'sound' and redis.call('HGET', breaker, 'open') then
  redis.call('HDEL', breaker, 'open')
  redis.call('DEL', breaker .. ':probe', breaker .. ':pause', breaker .. ':failures')
  return 'closed'
end
return ''
