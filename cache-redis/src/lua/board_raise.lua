-- RAISE  KEYS: board  ARGV: member, by, ttl ms, whether to renew it  -> the sum | nil if it is not finite
local K=KEYS[1]
local fresh=redis.call('ZCARD',K)==0
local sum=tonumber(redis.call('ZSCORE',K,ARGV[1]) or '0')+tonumber(ARGV[2])
if sum-sum~=0 then return false end
redis.call('ZINCRBY',K,ARGV[2],ARGV[1])
if fresh or ARGV[4]=='1' then redis.call('PEXPIRE',K,ARGV[3]) end
return redis.call('ZSCORE',K,ARGV[1])
