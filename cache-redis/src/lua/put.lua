-- PUT frame for ms  KEYS, ARGV and reply: as in publish.lua
-- SETRANGE of nothing writes nothing, but says whether full memory would refuse a value: after the DEL nothing is
-- refused any more, and puts would grow a full server without bound.
local r=redis.pcall('SETRANGE',KEYS[2],0,'')
local full=type(r)=='table' and r.err and not string.find(r.err,'WRONGTYPE',1,true)
local removed,stored,fault=redis.call('DEL',KEYS[2]),0
if not full then
  r=redis.pcall('SET',KEYS[2],ARGV[5],'PX',ARGV[4])
  if not (type(r)=='table' and r.err) then stored=1 end
end
