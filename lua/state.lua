-- Reads the fence and, if it may serve, the counters.
--
-- KEYS       [1] the fence
-- ARGV       none
-- Codes      {1, epoch, gate, mine, since_epoch, since_at, since_logged, ready, applied, reserves, batches}; the last three
--            are 0 unless ready is 1
-- Invariant  ready exactly if a reserve of the fence's epoch would be decided
local answer = not_ready('')
local state = {1, answer[3], answer[4], answer[5], answer[6], answer[7], answer[8], 0, '0', '0', 0}
if epoch and not opened(epoch) then
  local counters = call('HMGET', key(epoch, 'left'), APPLIED, RESERVES)
  state[8], state[9], state[10], state[11] = 1, counters[1], counters[2], call('HLEN', outbox) - 1
end
return state
