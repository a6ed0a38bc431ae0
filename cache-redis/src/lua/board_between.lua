-- BETWEEN  ARGV: order, lowest score, highest score, how many  -> nil if there is none
local all
if HIGH then all=redis.call('ZREVRANGEBYSCORE',K,ARGV[3],ARGV[2],'WITHSCORES','LIMIT',0,ARGV[4])
else all=redis.call('ZRANGEBYSCORE',K,ARGV[2],ARGV[3],'WITHSCORES','LIMIT',0,ARGV[4]) end
if #all==0 then return false end
table.insert(all,1,string.format('%.0f',rank(all[1])))
return all
