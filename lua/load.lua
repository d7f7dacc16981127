-- Writes one page of the stock of an epoch, and opens the fence with the last one.
--
-- KEYS       [1] the fence
-- ARGV       [1] epoch
--            [2] last: 1 or 0
--            [3] lost: 1 if fast stock was not intact when it was shut
--            [4] logged: what `applied` becomes with the last page
--            [5] number of offers
--            then per offer 3: offer, left, "<limit> <opens> <closes>"; then per buyer 2: "<offer>:<8 bytes of the user>", units
-- Codes      {1}
-- Invariant  only the rebuild that has shut the fence for this epoch can write; nobody sells what is not wholly loaded; the
--            outbox and the records of keys are either kept whole or begun anew
local e, last, lost = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'
local no = guard(e, 'closed')
if no then return no end
if lacks_epoch(e) or (last and not lost and lacks_kept()) then return not_ready('sentinel') end
local at = now()
local today = math.floor(at / DAY)
local old = call('HGET', KEYS[1], 'old') or ''
if lost then call('EXISTS', outbox, idem(today), idem(today - 1)) end
local left, about, held = {}, {}, {}
local behind = 6 + 3 * ARGV[5]
for i = 6, behind - 1, 3 do
  left[#left + 1], left[#left + 2] = ARGV[i], ARGV[i + 1]
  about[#about + 1], about[#about + 2] = ARGV[i], ARGV[i + 2]
end
for i = behind, #ARGV do held[#held + 1] = ARGV[i] end
in_parts('HSET', key(e, 'offers'), about)
in_parts('HSET', key(e, 'buyers'), held)
in_parts('HSET', key(e, 'left'), left)
if not last then return {1} end

call('HSET', key(e, 'left'), APPLIED, ARGV[4])
if lost then
  if period then call('UNLINK', idem(period), idem(period - 1)) end
  call('UNLINK', outbox, idem(today), idem(today - 1), idem(today - 2)) -- the third: of a fence that is gone
  call('HSET', outbox, SENTINEL, 1)
  call('HSET', idem(today), SENTINEL, 1)
  call('HSET', idem(today - 1), SENTINEL, 1)
  call('HSET', KEYS[1], 'period', text(today), 'since_epoch', e, 'since_at', text(at), 'since_logged', ARGV[4])
end
for former in string.gmatch(old, '%d+') do
  if former ~= e then call('UNLINK', key(former, 'left'), key(former, 'offers'), key(former, 'buyers')) end
end
call('HSET', KEYS[1], 'gate', 'open', 'old', '')
return {1}
