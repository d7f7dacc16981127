-- What every script begins with: the names of a partition's keys and the fence.
--
-- KEYS       [1] the fence, "<deployment>:{<partition>}:fence". The other keys follow from it and from what it holds,
--            which no caller can know before; all have its hash tag, so they are where it is.
-- ARGV       none of its own; scripts that need a fence get its epoch as ARGV[1]
-- Codes      every script answers {1, ...} when it was executed, and {0, why, epoch, gate, mine, since_epoch, since_at,
--            since_logged} when it was not; why is one of the words below, which package redisstock translates
-- Invariant  nothing is written before the fence, the identity of the data set and the sentinels have been seen; every
--            key is read before the first write, so that a slot on its way to another node stops a script before it
local call, sub, byte, char, format = redis.call, string.sub, string.byte, string.char, string.format
local base = sub(KEYS[1], 1, -6)
local PART = 7000 -- arguments of one command; unpack takes 7,999

local fence = call('HMGET', KEYS[1], 'epoch', 'gate', 'id', 'period', 'since_epoch', 'since_at', 'since_logged')
local epoch, gate, period = fence[1], fence[2], tonumber(fence[4])

-- The one data set that may serve is named by the replication id of its master. It changes at every restart, promotion
-- and demotion. A replica has its master's, so the role is looked at too.
local info = call('INFO', 'replication')
local me = string.find(info, 'role:master', 1, true) and string.match(info, 'master_replid:(%x+)')
local mine = epoch and me and fence[3] == me

-- key names one of the hashes of an epoch: left, offers, buyers.
local function key(e, name) return base .. e .. ':' .. name end
local function idem(n) return base .. 'idem:' .. format('%.0f', n) end
local outbox = base .. 'outbox'

-- Every hash has this field, so that one that was deleted is not taken for an empty one; `left` has APPLIED and RESERVES.
local SENTINEL, APPLIED, RESERVES = '#', 'a', 'n'

local function not_ready(why)
  return {0, why, epoch or '0', gate or '', mine and 1 or 0, fence[5] or '0', fence[6] or '0', fence[7] or '0'}
end

-- guard is the refusal of a call that needs the fence to be exactly (e, wanted, this data set), or nil.
local function guard(e, wanted)
  if not epoch then return not_ready('missing') end
  if gate ~= wanted then return not_ready(gate == 'open' and 'not_shut' or 'shut') end
  if epoch ~= e then return not_ready('epoch') end
  if not mine then return not_ready('identity') end
end

-- lacks_epoch and lacks_kept tell whether a hash of the epoch, or one that intact loads keep, is gone.
local function lacks_epoch(e)
  return call('HEXISTS', key(e, 'left'), APPLIED) == 0 or call('HEXISTS', key(e, 'offers'), SENTINEL) == 0
    or call('HEXISTS', key(e, 'buyers'), SENTINEL) == 0
end
local function lacks_kept()
  return not period or call('HEXISTS', outbox, SENTINEL) == 0 or call('HEXISTS', idem(period), SENTINEL) == 0
    or call('HEXISTS', idem(period - 1), SENTINEL) == 0
end

-- opened is the refusal of a call that sells or reads under e, or nil.
local function opened(e)
  local no = guard(e, 'open')
  if no then return no end
  if lacks_epoch(e) or lacks_kept() then return not_ready('sentinel') end
end

-- now is milliseconds since 1970 by the clock of this server; the period of idempotency records is a day of it.
local function now()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local DAY = 86400000

-- text is a whole number without exponent or fraction: up to 2^53 exactly.
local function text(n) return format('%.0f', n) end

-- in_parts calls a command with many arguments behind its key, as many at once as unpack takes. The number of
-- arguments that belong together must divide PART.
local function in_parts(command, name, args)
  for i = 1, #args, PART do call(command, name, unpack(args, i, math.min(i + PART - 1, #args))) end
end

-- get reads many fields of a hash.
local function get(name, fields)
  if #fields <= PART then return #fields == 0 and {} or call('HMGET', name, unpack(fields)) end
  local values = {}
  for i = 1, #fields, PART do
    for _, v in ipairs(call('HMGET', name, unpack(fields, i, math.min(i + PART - 1, #fields)))) do values[#values + 1] = v end
  end
  return values
end

-- slices cuts a string of many values of one size.
local function slices(s, size)
  local list = {}
  for i = 1, #s / size do list[i] = sub(s, (i - 1) * size + 1, i * size) end
  return list
end
