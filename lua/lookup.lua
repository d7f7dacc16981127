-- Finds the orders of keys and writes nothing.
--
-- KEYS       [1] the fence
-- ARGV       [1] epoch
--            [2] per key 16 bytes: user, hash of the key
--            [3] per key 8 bytes: fingerprint
-- Codes      {1, codes, extra}: one byte per key, 0 for one that is not known; extra has, for each REPEATED in order, what
--            reserve.lua says
-- Invariant  sees the records that a reserve at this moment would see
local e = ARGV[1]
local no = opened(e)
if no then return no end
local fields, today = slices(ARGV[2], 16), math.max(math.floor(now() / DAY), period)
local current, previous = {}, {}
if today == period then current = get(idem(today), fields) end
if today - period < 2 then previous = get(idem(today - 1), fields) end
local codes, extra = {}, {}
for i = 1, #fields do
  local known = current[i] or previous[i]
  if not known then
    codes[i] = 0
  elseif sub(known, 9, 16) ~= sub(ARGV[3], i * 8 - 7, i * 8) then
    codes[i] = KEY_REUSED
  else
    local id = sub(known, 17, 24)
    codes[i], extra[#extra + 1] = REPEATED, sub(known, 1, 8) .. id .. call('HEXISTS', outbox, id)
  end
end
local answer = {}
for i = 1, #codes, PART do answer[#answer + 1] = char(unpack(codes, i, math.min(i + PART - 1, #codes))) end
return {1, table.concat(answer), extra}
