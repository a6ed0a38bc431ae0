-- EXCHANGE  KEYS: key  ARGV: whether a value is expected, that value, whether to set or to delete, new value, ttl ms
--   -> {1, nil} | {0, what the key holds}
local held=redis.call('GET',KEYS[1])
if ARGV[1]=='1' and held~=ARGV[2] or ARGV[1]=='0' and held then return {0,held} end
if ARGV[3]=='1' then redis.call('SET',KEYS[1],ARGV[4],'PX',ARGV[5]) else redis.call('DEL',KEYS[1]) end
return {1,false}
