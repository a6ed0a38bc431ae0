-- FILL  KEYS: key  ARGV: token, frame, ttl ms, channel, publish verb  -> 1 | 0
local st,h=held(KEYS[1],ARGV[1])
if not st then return 0 end
redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3])
wake(h,KEYS[1],ARGV[5],ARGV[4])
return 1
