-- DELETE  KEYS, ARGV and reply: as in publish.lua
local removed,stored,fault=0,0
for i=2,#KEYS do removed=removed+redis.call('DEL',KEYS[i]) end
