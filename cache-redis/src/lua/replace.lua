-- REPLACE  KEYS: key  ARGV: integer, ttl ms  -> what the key held
local held=integer(KEYS[1])
if held==nil then return BAD end
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2])
return held
