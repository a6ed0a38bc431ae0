-- END ALL  ARGV: name to keep, or nothing  -> how many
trim()
local n=0
for _,name in ipairs(redis.call('ZRANGE',I,0,-1)) do n=n+redis.call('HEXISTS',D,name) end
local held,at=alive(ARGV[1])
redis.call('DEL',I,D)
if held then
  redis.call('HSET',D,ARGV[1],held)
  redis.call('ZADD',I,at,ARGV[1])
  keep()
  n=n-1
end
return n
