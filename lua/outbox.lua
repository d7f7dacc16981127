-- Lists the outbox, or reads some of its entries.
--
-- KEYS       [1] the fence
-- ARGV       [1] epoch
--            [2] the fence that it takes: open, or closed for a rebuild that has shut it
--            [3..] batch ids, 8 bytes each; none: list the ids
-- Codes      {1, ids} with the sentinel among them, or {1, entries}: "<epoch>:<records>", nil for one that is gone
-- Invariant  a rebuild that lost its fence relays nothing
local e = ARGV[1]
local no
if ARGV[2] == 'open' then no = opened(e) else no = guard(e, 'closed') end
if no then return no end
if call('HEXISTS', outbox, SENTINEL) == 0 then return not_ready('sentinel') end
if #ARGV == 2 then return {1, call('HKEYS', outbox)} end
return {1, call('HMGET', outbox, unpack(ARGV, 3))}
