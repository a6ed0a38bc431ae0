-- A key's header; see cache-core's envelope for the offsets (Lua counts from 1).
local NONE=string.rep('\0',8)
local function now() local t=redis.call('TIME'); return t[1]*1000+math.floor(t[2]/1000) end
local function text(n) return string.format('%.0f',n) end
local function deadline(h) return (struct.unpack('<I8',string.sub(h,25,32))) end
-- state (nil if the bytes are no frame), token, header
local function look(k)
  local h=redis.call('GETRANGE',k,0,47)
  if #h<48 or string.byte(h,1)~=199 or string.byte(h,2)~=1 then return nil,NONE,h end
  return string.sub(h,3,3),string.sub(h,9,16),h
end
-- state (nil if another holds it) and header of a lease that token holds
local function held(k,token)
  local st,tk,h=look(k)
  if (st=='L' or st=='S') and tk==token and tk~=NONE then return st,h end
  return nil,h
end
-- Rewrites bytes in place. PEXPIRE comes first, with the ttl that the key has: it is a write that full memory does not
-- refuse, and after one write a script is not refused any.
local function patch(k,at,bytes)
  local p=redis.call('PTTL',k)
  if p>=0 then redis.call('PEXPIRE',k,text(p)) end
  redis.call('SETRANGE',k,at,bytes)
end
-- the flags byte with the waiter's bit cleared
local function quiet(h) local f=string.byte(h,4); if f%8>=4 then f=f-4 end; return string.char(f) end
local function wake(h,k,verb,channel)
  if string.byte(h,4)%8>=4 then redis.call(verb,channel,'w '..text(#k)..':'..k) end
end
