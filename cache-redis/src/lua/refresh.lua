-- REFRESH  KEYS: key  ARGV: seen stamp, frame, ttl ms  -> 1 | 0
local st,stamp=look(KEYS[1])
if (st~='V' and st~='N') or stamp~=ARGV[1] then return 0 end
redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3])
return 1
