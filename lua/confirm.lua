-- Deletes outbox entries that the queue has confirmed.
--
-- KEYS       [1] the fence
-- ARGV       [1] epoch
--            [2] per batch 8 bytes: its id
-- Codes      {1}
-- Invariant  an entry goes only when its batch is in the queue
local e = ARGV[1]
local no = opened(e)
if no then return no end
in_parts('HDEL', outbox, slices(ARGV[2], 8))
return {1}
