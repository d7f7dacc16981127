-- Decides one order.
--
-- KEYS       [1] units left  [2] hash of user -> units  [3] hash of user and key -> order and fingerprint
-- ARGV       [1] quantity  [2] limit per user, 0: none  [3] user  [4] user and key  [5] order id  [6] fingerprint
-- Codes      the numbers of order.Code: {1} accepted, {2, order} repeated, {3} key reused, {6} over the limit, {7} sold out
local known = redis.call('HGET', KEYS[3], ARGV[4])
if known then
  local id, fingerprint = string.match(known, '^(%d+) (%d+)$')
  if fingerprint ~= ARGV[6] then return {3} end
  return {2, id}
end
local quantity, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
if limit > 0 and tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or 0) + quantity > limit then return {6} end
if tonumber(redis.call('GET', KEYS[1])) < quantity then return {7} end
redis.call('DECRBY', KEYS[1], quantity)
if limit > 0 then redis.call('HINCRBY', KEYS[2], ARGV[3], quantity) end
redis.call('HSET', KEYS[3], ARGV[4], ARGV[5] .. ' ' .. ARGV[6])
return {1}
