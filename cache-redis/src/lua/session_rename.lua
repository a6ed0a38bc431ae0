-- RENAME  ARGV: name, new name, idle ms  -> 1 | 0
trim()
local held=alive(ARGV[1])
if not held then return 0 end
redis.call('HDEL',D,ARGV[1])
redis.call('ZREM',I,ARGV[1])
redis.call('HSET',D,ARGV[2],held)
redis.call('ZADD',I,prolonged(held,ARGV[3]),ARGV[2])
keep()
return 1
