-- TOUCH  KEYS: key  ARGV: seen stamp, soft expiry, ttl ms  -> 1 | 0
local k=KEYS[1]
local st,stamp,h=look(k)
local old,new=string.sub(h,25,32),ARGV[2]
if (st~='V' and st~='N') or stamp~=ARGV[1] then return 0 end
if struct.unpack('<I8',old)>=struct.unpack('<I8',new) then return 0 end
-- The soft expiry is under the seal's second half, a CRC-32. That is linear: what changes in it is the checksum, begun
-- at zero, of what changes in the soft expiry, which is the last that goes into it.
local crc=0
for i=1,8 do
  crc=bit.bxor(crc,string.byte(old,i),string.byte(new,i))
  for _=1,8 do crc=bit.bxor(bit.rshift(crc,1),bit.band(-bit.band(crc,1),0xEDB88320)) end
end
local at=52
if string.byte(h,4)%4>=2 then at=at+1+8*string.byte(redis.call('GETRANGE',k,48,48)) end
local seal=struct.unpack('<I4',redis.call('GETRANGE',k,at,at+3))
-- first, as in patch.lua
redis.call('PEXPIRE',k,ARGV[3])
redis.call('SETRANGE',k,24,new)
redis.call('SETRANGE',k,at,struct.pack('<I4',bit.bxor(seal,crc)%4294967296))
return 1
