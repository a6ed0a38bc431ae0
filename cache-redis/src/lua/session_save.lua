-- SAVE  ARGV: name, payload, idle ms  -> 1 | 0
trim()
local held=alive(ARGV[1])
if not held then return 0 end
local times,owner=string.match(held,'^(%d+:%d+:(%d+):)')
redis.call('HSET',D,ARGV[1],string.sub(held,1,#times+owner)..ARGV[2])
redis.call('ZADD',I,prolonged(held,ARGV[3]),ARGV[1])
keep()
return 1
