-- The next number of a line, 0 if it can't be had: then the sequence is gone and every process revalidates.
-- A missing one begins at the clock in µs, so a number is never given twice. Runs after the script's first write.
local MONTH='2592000000'
local function create(seq)
  local t=redis.call('TIME')
  local r=redis.pcall('SET',seq,string.format('%.0f',t[1]*1000000+t[2]),'PX',MONTH,'NX')
  return not (type(r)=='table' and r.err)
end
local function number(seq)
  if redis.call('EXISTS',seq)==0 and not create(seq) then return 0 end
  local n=redis.pcall('INCR',seq)
  -- from 2^53 on Lua would round
  if type(n)=='number' and n<9007199254740992 then return n end
  redis.call('DEL',seq)
  return 0
end
