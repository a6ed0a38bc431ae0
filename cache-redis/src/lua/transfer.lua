-- TRANSFER  KEYS: from, to  ARGV: amount, the highest that it may be added to, ttl ms, whether to renew it
--   -> {1, from, to} | {0, what `from` holds, nil}
-- Every check comes before the first write: a script is not rolled back.
local a,b=integer(KEYS[1]),integer(KEYS[2])
if a==nil or b==nil then return BAD end
if below(a or '0',ARGV[1]) then return {0,a,false} end
if below(ARGV[2],b or '0') then return {err='ERR increment or decrement would overflow'} end
redis.call('DECRBY',KEYS[1],ARGV[1])
redis.call('INCRBY',KEYS[2],ARGV[1])
if ARGV[4]=='1' then redis.call('PEXPIRE',KEYS[1],ARGV[3]) end
if not b or ARGV[4]=='1' then redis.call('PEXPIRE',KEYS[2],ARGV[3]) end
return {1,redis.call('GET',KEYS[1]),redis.call('GET',KEYS[2])}
