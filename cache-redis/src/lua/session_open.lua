-- OPEN  ARGV: name, owner, payload, idle ms, absolute ms
trim()
local ends=text(NOW+ARGV[5])
redis.call('HSET',D,ARGV[1],text(NOW)..':'..ends..':'..#ARGV[2]..':'..ARGV[2]..ARGV[3])
redis.call('ZADD',I,text(math.min(NOW+ARGV[4],ends)),ARGV[1])
keep()
return 1
