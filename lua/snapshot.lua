-- Reads all units left and what users hold, at one moment. Its cost grows with the partition.
--
-- KEYS       [1] the fence
-- ARGV       [1] epoch
-- Codes      {1, batches in the outbox, left, buyers}: the last two are whole hashes, sentinels included
-- Invariant  as read.lua
local e = ARGV[1]
local no = opened(e)
if no then return no end
return {1, call('HLEN', outbox) - 1, call('HGETALL', key(e, 'left')), call('HGETALL', key(e, 'buyers'))}
