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

-- What the last page drops: all that is looked at before the first write, as everything is.
local at = now()
local today, gone = math.floor(at / DAY), {}
local function drop(name)
  call('EXISTS', name)
  gone[#gone + 1] = name
end
if last and lost then
  if period then
    drop(idem(period))
    drop(idem(period - 1))
  end
  drop(outbox)
  for day = today - 2, today do drop(idem(day)) end -- the first of them if the fence that named it is gone
end
if last then
  for former in string.gmatch(call('HGET', KEYS[1], 'old') or '', '%d+') do
    if former ~= e then
      for _, name in ipairs({'left', 'offers', 'buyers'}) do drop(key(former, name)) end
    end
  end
end

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
for _, name in ipairs(gone) do call('UNLINK', name) end
if lost then
  call('HSET', outbox, SENTINEL, 1)
  call('HSET', idem(today), SENTINEL, 1)
  call('HSET', idem(today - 1), SENTINEL, 1)
  call('HSET', KEYS[1], 'period', text(today), 'since_epoch', e, 'since_at', text(at), 'since_logged', ARGV[4])
end
call('HSET', KEYS[1], 'gate', 'open', 'old', '')
return {1}
