-- The answers to one request of a reserve or a look-up, as numbers.
--
-- KEYS       none: this is no script of its own. It is put in front of the scripts that answer with a code, so that a
--            number is written down once on this side of the wire.
-- ARGV       none
-- Codes      those of engine/order (outcome.go); a Go test holds both equal, name by name
-- Invariant  a number never changes its meaning and is never used again: engines of two releases may share one Redis
local ACCEPTED   = 1 -- reserved; an order only once its batch is in the queue
local REPEATED   = 2 -- the key belongs to an earlier order with the same fingerprint
local KEY_REUSED = 3 -- the key belongs to an earlier order with another fingerprint
local NOT_OPEN   = 4 -- before the offer's window
local CLOSED     = 5 -- behind it
local OVER_LIMIT = 6 -- the user would hold more units than the offer's per-user limit
local SOLD_OUT   = 7 -- fewer units left than asked for
