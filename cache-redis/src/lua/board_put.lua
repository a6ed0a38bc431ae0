-- PUT  KEYS: board  ARGV: 1 only if higher, 0 only if lower, or nothing; member, score, ttl ms, whether to renew it
--   -> {the score before, whether the new one was taken}
local K=KEYS[1]
local fresh=redis.call('ZCARD',K)==0
local before=redis.call('ZSCORE',K,ARGV[2])
if before then
  local new,old=tonumber(ARGV[3]),tonumber(before)
  if ARGV[1]=='1' and new<=old or ARGV[1]=='0' and new>=old then return {before,0} end
end
redis.call('ZADD',K,ARGV[3],ARGV[2])
if fresh or ARGV[5]=='1' then redis.call('PEXPIRE',K,ARGV[4]) end
return {before,1}
