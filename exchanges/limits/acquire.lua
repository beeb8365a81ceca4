-- Let one request leave now and count it, or say how long it must wait and why.
--
-- ask.keys           names of the keys (also in KEYS, as Redis wants it)
-- ask.weight         what the request may cost, and ask.weight_now: what is counted for it at once
-- ask.ceiling        weight per minute that requests of its priority may use up
-- ask.minute_left_ms, ask.probe_ms
-- ask.known_stop_ms, ask.known_stop_of_kind_ms: stops that the asking process knows of, 0 if none
-- ask.orders         for each order limit: key, limit, left_ms (until its window ends)
-- ask.book           keys of the book's token and of its newest claims, or empty
--
-- Reply: {wait_ms, why} if it must wait, followed by the stops of the address and of the kind of
-- call if the exchange wants it to wait; else {0, '', is_probe, counts, token, claims}. The counts
-- are the weight and one per order limit.
local ask = cjson.decode(ARGV[1])
local keys = ask.keys

local function count_of(key)
  return tonumber(redis.call('GET', key) or '0')
end

-- A server that was restarted or emptied has forgotten the stops, which processes remember.
local function stop_of(key, known)
  local stop = redis.call('PTTL', key)
  if known > 0 and known > stop then
    redis.call('SET', key, '1', 'PX', known)
    return known
  end
  return stop
end

local stop_of_all = stop_of(keys.stop, ask.known_stop_ms)
local stop_of_kind = stop_of(keys.stop_of_kind, ask.known_stop_of_kind_ms)
local stop = math.max(stop_of_all, stop_of_kind)
if stop > 0 then return {stop, 'stopped by the exchange', stop_of_all, stop_of_kind} end

local forced = redis.call('HGET', keys.breaker, 'forced')
if forced == 'open' then return {1000, 'breaker held open'} end
local is_open = forced ~= 'closed' and redis.call('HGET', keys.breaker, 'open')
if is_open then
  local pause = redis.call('PTTL', keys.breaker .. ':pause')
  if pause > 0 then return {pause, 'breaker open'} end
end

if count_of(keys.weight) + ask.weight > ask.ceiling then
  return {ask.minute_left_ms, 'request weight used up'}
end
for _, order in ipairs(ask.orders) do
  if count_of(order.key) + 1 > order.limit then
    return {order.left_ms, 'order limit used up'}
  end
end

-- This check comes last: a request that must wait for another reason would use up the one probe.
if is_open and not redis.call('SET', keys.breaker .. ':probe', '1', 'NX', 'PX', ask.probe_ms) then
  return {1000, 'breaker half-open'}
end

local counts = {redis.call('INCRBY', keys.weight, ask.weight_now)}
redis.call('PEXPIRE', keys.weight, 120000)
for _, order in ipairs(ask.orders) do
  counts[#counts + 1] = redis.call('INCR', order.key)
  redis.call('PEXPIRE', order.key, order.left_ms + 60000)
end

local token, claims = '', {}
if #ask.book > 0 then
  token = redis.call('HGET', ask.book[1], 'token') or ''
  claims = redis.call('LRANGE', ask.book[2], 0, -1)
end
return {0, '', is_open and 1 or 0, counts, token, claims}
