-- END  ARGV: name  -> 1 | 0
trim()
local held=alive(ARGV[1])
redis.call('HDEL',D,ARGV[1])
redis.call('ZREM',I,ARGV[1])
keep()
return held and 1 or 0
