-- Shuts the fence for a new epoch: the first step of a rebuild that fast stock sees.
--
-- KEYS       [1] the fence
-- ARGV       [1] the new epoch
-- Codes      {1, intact, ok}: ok 0 if the fence's epoch is already that or a later one, and nothing was changed; intact 1 if
--            the fence was open under its own identity and no hash was missing
-- Invariant  epochs only grow; whatever is shut stays shut until the last page of this epoch's load
local e = ARGV[1]
if not me then return not_ready('identity') end -- a replica; the write would be refused anyway
if tonumber(epoch or 0) >= tonumber(e) then return {1, 0, 0} end
local intact = epoch and not opened(epoch)
for _, name in ipairs({'left', 'offers', 'buyers'}) do call('UNLINK', key(e, name)) end
call('HSET', key(e, 'left'), APPLIED, 0, RESERVES, 0)
call('HSET', key(e, 'offers'), SENTINEL, 1)
call('HSET', key(e, 'buyers'), SENTINEL, 1)
local old = call('HGET', KEYS[1], 'old') or ''
if epoch then old = old .. epoch .. ' ' end
call('HSET', KEYS[1], 'epoch', e, 'gate', 'closed', 'id', me, 'old', old)
return {1, intact and 1 or 0, 1}
