-- OVERWRITE  KEYS: key  ARGV: whether it must be there, value, ttl ms
-- returns whether the value was stored; the length of another kind of value is an error
local there=redis.call('STRLEN',KEYS[1])>0 or redis.call('EXISTS',KEYS[1])==1
if ARGV[1]=='1' and not there then return 0 end
redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3])
return 1
