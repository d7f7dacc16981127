-- Takes back what reserve.lua did for an order that could not be stored.
--
-- KEYS       as of reserve.lua
-- ARGV       [1] quantity  [2] limit per user, 0: none  [3] user  [4] user and key
redis.call('INCRBY', KEYS[1], ARGV[1])
if tonumber(ARGV[2]) > 0 then redis.call('HINCRBY', KEYS[2], ARGV[3], -tonumber(ARGV[1])) end
redis.call('HDEL', KEYS[3], ARGV[4])
return {1}
