-- Read, replace or extend what is remembered of the book.
--
-- ask.keys    names of the keys (also in KEYS, as Redis wants it): of the token, of the claims
-- ask.verb    "read", "begin" or "note"
-- ask.token   with "begin" the token to remember, with "note" the one that must be remembered
-- ask.names   with "note" the claims to add, oldest first; the last is the caller's own
-- ask.newest  how many claims are kept
--
-- Reply: {token or '', claims} to "read", '' to "begin", and to "note" '', 'other book' or 'known'.
local ask = cjson.decode(ARGV[1])
local book, claims = ask.keys[1], ask.keys[2]

local token = redis.call('HGET', book, 'token') or ''
if ask.verb == 'read' then return {token, redis.call('LRANGE', claims, 0, -1)} end
if ask.verb == 'begin' then
  redis.call('HSET', book, 'token', ask.token)
  redis.call('DEL', claims)
  return ''
end

if token ~= ask.token then return 'other book' end
for _, known in ipairs(redis.call('LRANGE', claims, 0, -1)) do
  if known == ask.names[#ask.names] then return 'known' end
end
for _, name in ipairs(ask.names) do redis.call('LPUSH', claims, name) end
redis.call('LTRIM', claims, 0, ask.newest - 1)
return ''
