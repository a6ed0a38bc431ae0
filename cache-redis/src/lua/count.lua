-- COUNT  KEYS: key  ARGV: by, the lowest and the highest that may be added to, ttl ms, whether to renew it
--   -> {1, the sum} | {0, what the key holds}
local held=integer(KEYS[1])
if held==nil then return BAD end
local n=held or '0'
if below(n,ARGV[2]) or below(ARGV[3],n) then return {0,held} end
local r=redis.pcall('INCRBY',KEYS[1],ARGV[1])
if type(r)=='table' and r.err then return r end
if not held or ARGV[5]=='1' then redis.call('PEXPIRE',KEYS[1],ARGV[4]) end
return {1,redis.call('GET',KEYS[1])}
