-- Reads fields of one hash of an epoch.
--
-- KEYS       [1] the fence
-- ARGV       [1] epoch
--            [2] left or buyers
--            [3..] fields: an offer in decimal, or a buyer "<offer>:<8 bytes of the user>"
-- Codes      {1, values}: nil for a field that is not there
-- Invariant  nothing is read from a hash of another epoch or of a data set that may not serve
local e = ARGV[1]
local no = opened(e)
if no then return no end
local fields = {}
for i = 3, #ARGV do fields[i - 2] = ARGV[i] end
return {1, get(key(e, ARGV[2]), fields)}
