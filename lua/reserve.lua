-- Decides a whole batch of requests of one partition.
--
-- KEYS       [1] the fence
-- ARGV       [1] epoch
--            [2] per request 16 bytes: user, hash of the key; the field of its idempotency record
--            [3] per request 16 bytes: order id, fingerprint
--            [4] per request one byte, the number of its lines, and per line 6 bytes: place of the offer in ARGV[8..]
--                from 0 (2), quantity (4)
--            [5] per request 4 bytes: length of its record
--            [6] "<epoch>:" and the records, one behind the other: the outbox entry if all are accepted
--            [7] per batch that the queue has confirmed 8 bytes: its id
--            [8..] every offer that a line names, once, in decimal
--            All numbers in strings of bytes are big-endian. Ids are never numbers here: a double cannot hold them.
-- Codes      {1, applied, batch, codes, left, extra}: batch is the place of the first accepted request from 1, or 0; codes
--            is one byte per request; left the units left of ARGV[8..]; extra has, in order, for each REPEATED the order,
--            its batch (8 bytes each) and '1' if that is in the outbox, and for each code from NOT_OPEN the line, from 0
-- Invariant  all lines of a request or none; what is accepted is taken, recorded and in the outbox in this one step, or
--            nothing of it is; decided on local tables first, so that no decision sees half of another
--
-- Redis hashes every byte of every string that a script makes: the records are passed on as they came where that is
-- possible, and nothing long is put together twice.
local e = ARGV[1]
local no = guard(e, 'open')
if no then return no end

local LEFT, OFFERS, BUYERS = key(e, 'left'), key(e, 'offers'), key(e, 'buyers')
local named = #ARGV - 7
local about = call('HMGET', OFFERS, SENTINEL, unpack(ARGV, 8))
local units = call('HMGET', LEFT, APPLIED, RESERVES, unpack(ARGV, 8))
if not about[1] or not units[1] or call('HEXISTS', BUYERS, SENTINEL) == 0 or lacks_kept() then return not_ready('sentinel') end

local at = now()
local left, limit, code_of, prefix = {}, {}, {}, {} -- prefix: of a limited offer's buyers
for o = 1, named do
  left[o] = tonumber(units[o + 2])
  if not about[o + 1] or not left[o] then return not_ready('offer') end
  local most, opens, closes = string.match(about[o + 1], '^(%d+) (%-?%d+) (%-?%d+)$')
  limit[o], opens, closes = tonumber(most), tonumber(opens), tonumber(closes)
  if limit[o] > 0 then prefix[o] = ARGV[o + 7] .. ':' end
  if closes ~= 0 and at >= closes then code_of[o] = CLOSED elseif at < opens then code_of[o] = NOT_OPEN end
end

-- The lines of all requests; those of request i are first[i] to first[i + 1] - 1.
local keys, shape, pos, lines, bought = ARGV[2], ARGV[4], 1, 0, 0
local fields, n = slices(keys, 16), #keys / 16
local first, offer_of, quantity, buyer_of, buyers = {}, {}, {}, {}, {}
for i = 1, n do
  first[i] = lines + 1
  local count = byte(shape, pos)
  pos = pos + 1
  for _ = 1, count do
    local a, b, c, d, f, g = byte(shape, pos, pos + 5)
    pos, lines = pos + 6, lines + 1
    local o = a * 256 + b + 1
    offer_of[lines], quantity[lines] = o, ((c * 256 + d) * 256 + f) * 256 + g
    if prefix[o] then
      local buyer = prefix[o] .. sub(keys, i * 16 - 15, i * 16 - 8)
      bought = bought + 1
      buyer_of[lines], buyers[bought] = buyer, buyer
    end
  end
end
first[n + 1] = lines + 1

local held = {}
for i, has in ipairs(get(BUYERS, buyers)) do held[buyers[i]] = tonumber(has) or 0 end

-- The records of the two newest periods; in a new one the newest is not there yet.
local today = math.max(math.floor(at / DAY), period)
local current, previous = {}, {}
if today == period and n > 0 then current = call('HMGET', idem(today), unpack(fields)) end
if today - period < 2 and n > 0 and call('HLEN', idem(today - 1)) > 1 then
  previous = call('HMGET', idem(today - 1), unpack(fields))
end
if today > period then call('EXISTS', idem(today - 1), idem(today)) end

-- From here on it may write. What the queue has confirmed goes first, because the answers say what is in the outbox.
if #ARGV[7] > 0 then in_parts('HDEL', outbox, slices(ARGV[7], 8)) end
if today > period then
  for p = math.max(today - 1, period + 1), today do
    call('UNLINK', idem(p))
    call('HSET', idem(p), SENTINEL, 1)
  end
  call('HSET', KEYS[1], 'period', text(today))
  call('UNLINK', idem(period - 1))
  if today - period > 1 then call('UNLINK', idem(period)) end
end

local outboxed = {}
local function in_outbox(id)
  if outboxed[id] == nil then outboxed[id] = call('HEXISTS', outbox, id) == 1 end
  return outboxed[id]
end

-- take takes the lines from to last of a request, all or none. It returns the code that refuses them, and the line.
local function take(from, last)
  for l = from, last do
    local code = code_of[offer_of[l]]
    if code then return code, l end
  end
  for l = from, last do
    local buyer = buyer_of[l]
    if buyer then
      held[buyer] = held[buyer] + quantity[l]
      if held[buyer] > limit[offer_of[l]] then
        for k = from, l do
          if buyer_of[k] then held[buyer_of[k]] = held[buyer_of[k]] - quantity[k] end
        end
        return OVER_LIMIT, l
      end
    end
  end
  for l = from, last do
    local o = offer_of[l]
    left[o] = left[o] - quantity[l]
    if left[o] < 0 then
      for k = from, l do left[offer_of[k]] = left[offer_of[k]] + quantity[k] end
      for k = from, last do
        if buyer_of[k] then held[buyer_of[k]] = held[buyer_of[k]] - quantity[k] end
      end
      return SOLD_OUT, l
    end
  end
end

local ids, batch, batch_at = ARGV[3], nil, 0
local codes, extra, extras = {}, {}, 0
local recorded, records, fresh = {}, 0, {} -- idempotency records, by field
local changed, holdings, holders, texts = {}, {}, 0, {} -- a buyer who buys twice is written twice, the second time with the sum
for i = 1, n do
  local field = fields[i]
  local known = fresh[field] or current[i] or previous[i]
  if not known then
    local from, last = first[i], first[i + 1] - 1
    local code, line = take(from, last)
    if code then
      extras = extras + 1
      codes[i], extra[extras] = code, line - from
    else
      codes[i] = ACCEPTED
      if not batch then
        batch, batch_at = sub(ids, i * 16 - 15, i * 16 - 8), i
        outboxed[batch] = true
      end
      local value = sub(ids, i * 16 - 15, i * 16) .. batch
      fresh[field], recorded[records + 1], recorded[records + 2] = value, field, value
      records = records + 2
      for l = from, last do
        changed[offer_of[l]] = true
        local buyer = buyer_of[l]
        if buyer then
          local has = held[buyer]
          texts[has] = texts[has] or text(has)
          holdings[holders + 1], holdings[holders + 2] = buyer, texts[has]
          holders = holders + 2
        end
      end
    end
  elseif sub(known, 9, 16) ~= sub(ids, i * 16 - 7, i * 16) then
    codes[i] = KEY_REUSED
  else
    local id = sub(known, 17, 24)
    extras = extras + 1
    codes[i], extra[extras] = REPEATED, sub(known, 1, 8) .. id .. (in_outbox(id) and '1' or '0')
  end
end

local new = {RESERVES, text(units[2] + 1)}
for o in pairs(changed) do
  new[#new + 1], new[#new + 2] = ARGV[o + 7], text(left[o])
end
in_parts('HSET', LEFT, new)
if batch then
  in_parts('HSET', BUYERS, holdings)
  in_parts('HSET', idem(today), recorded)
  local entry = ARGV[6]
  if records < 2 * n then
    local kept, from = {e, ':'}, #e + 2
    for i = 1, n do
      local a, b, c, d = byte(ARGV[5], i * 4 - 3, i * 4)
      local size = ((a * 256 + b) * 256 + c) * 256 + d
      if codes[i] == ACCEPTED then kept[#kept + 1] = sub(entry, from, from + size - 1) end
      from = from + size
    end
    entry = table.concat(kept)
  end
  call('HSET', outbox, batch, entry)
end
return {1, units[1], batch_at, n > 0 and char(unpack(codes)) or '', left, extra}
