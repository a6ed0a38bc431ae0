-- HOLD for ms, frame: a tombstone whose deadline is set here  KEYS, ARGV and reply: as in publish.lua
local removed,stored,fault=0,0
for i=2,#KEYS do removed=removed+redis.call('DEL',KEYS[i]) end
local t=redis.call('TIME')
local ends=struct.pack('<I8',t[1]*1000+math.floor(t[2]/1000)+tonumber(ARGV[4]))
local bar=string.sub(ARGV[5],1,24)..ends..string.sub(ARGV[5],33)
for i=2,#KEYS do
  local r=redis.pcall('SET',KEYS[i],bar,'PX',ARGV[4])
  if type(r)=='table' and r.err then fault=r end
end
