-- Applies rows of the stock log: everything that changes fast stock and is not a sale.
--
-- KEYS       [1] the fence
-- ARGV       [1] epoch
--            [2] number of the first row
--            then per row the number of its changes, and per change 7: what (create, window, give, raise), offer, user
--            (8 bytes), units, limit, opens, closes
-- Codes      {1, applied}
-- Invariant  rows are applied in order, each once: only those above `applied`, and only if the first is at most the next
--            one; `applied` is the only cursor there is; all of them or none
local e = ARGV[1]
local no = opened(e)
if no then return no end
local LEFT, OFFERS, BUYERS = key(e, 'left'), key(e, 'offers'), key(e, 'buyers')
local row, applied = tonumber(ARGV[2]), tonumber(call('HGET', LEFT, APPLIED))
if #ARGV == 2 or applied + 1 < row then return {1, text(applied)} end

-- The changes of the new rows, and all that they are about.
local changes, pos, wanted, offers, buyers = {}, 3, {}, {}, {}
while pos <= #ARGV do
  local count = tonumber(ARGV[pos])
  pos = pos + 1
  for _ = 1, count do
    if row > applied then
      local offer = ARGV[pos + 1]
      changes[#changes + 1] = pos
      if not wanted[offer] then wanted[offer], offers[#offers + 1] = true, offer end
      if ARGV[pos] == 'give' then buyers[#buyers + 1] = offer .. ':' .. ARGV[pos + 2] end
    end
    pos = pos + 7
  end
  row = row + 1
end
local about, left, held, dirty = {}, {}, {}, {}
for i, v in ipairs(get(OFFERS, offers)) do about[offers[i]] = v end
for i, v in ipairs(get(LEFT, offers)) do left[offers[i]] = tonumber(v) end
for i, v in ipairs(get(BUYERS, buyers)) do held[buyers[i]] = tonumber(v) end

for _, at in ipairs(changes) do
  local what, offer, units = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 3])
  if what == 'create' then
    if not about[offer] then
      about[offer], left[offer] = ARGV[at + 4] .. ' ' .. ARGV[at + 5] .. ' ' .. ARGV[at + 6], units
      dirty[offer] = true
    end
  elseif not about[offer] or not left[offer] then
    return not_ready('offer')
  elseif what == 'window' then
    about[offer] = string.match(about[offer], '^%d+') .. ' ' .. ARGV[at + 5] .. ' ' .. ARGV[at + 6]
    dirty[offer] = true
  else
    left[offer] = left[offer] + units
    dirty[offer] = true
    local buyer = offer .. ':' .. ARGV[at + 2]
    if what == 'give' and held[buyer] then held[buyer] = math.max(held[buyer] - units, 0) end
  end
end

local new_left, new_about, new_held, gone = {}, {}, {}, {}
for offer in pairs(dirty) do
  new_left[#new_left + 1], new_left[#new_left + 2] = offer, text(left[offer])
  new_about[#new_about + 1], new_about[#new_about + 2] = offer, about[offer]
end
for buyer, units in pairs(held) do
  if units > 0 then
    new_held[#new_held + 1], new_held[#new_held + 2] = buyer, text(units)
  else
    gone[#gone + 1] = buyer
  end
end
in_parts('HSET', OFFERS, new_about)
in_parts('HSET', BUYERS, new_held)
in_parts('HDEL', BUYERS, gone)
new_left[#new_left + 1], new_left[#new_left + 2] = APPLIED, text(math.max(row - 1, applied))
in_parts('HSET', LEFT, new_left)
return {1, text(math.max(row - 1, applied))}
