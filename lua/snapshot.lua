-- Reads units left and what users hold: all at one moment, or what users hold in pages, so that nobody waits for long.
--
-- KEYS       [1] the fence
-- ARGV       [1] epoch
--            [2] cursor of a page, 0 to begin, and [3] about how many buyers it has; none: all at once
-- Codes      {1, batches in the outbox, left, buyers, the next cursor or 0}: the two are fields and values, sentinels
--            included; left has only the counters unless all is read or a page is the first. A buyer may be in two pages
-- Invariant  as read.lua; pages under the same counters are of one moment: whatever changes left or buyers changes them
local e, cursor = ARGV[1], ARGV[2]
local no = opened(e)
if no then return no end
local batches, left, buyers = call('HLEN', outbox) - 1, key(e, 'left'), key(e, 'buyers')
if not cursor then return {1, batches, call('HGETALL', left), call('HGETALL', buyers), '0'} end
local page = call('HSCAN', buyers, cursor, 'COUNT', ARGV[3])
if cursor == '0' then return {1, batches, call('HGETALL', left), page[2], page[1]} end
local counters = call('HMGET', left, APPLIED, RESERVES)
return {1, batches, {APPLIED, counters[1], RESERVES, counters[2]}, page[2], page[1]}
