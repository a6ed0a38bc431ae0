-- ADD  KEYS: key  ARGV: by, ttl ms  -> the sum as text, since a number in Lua has 53 bits
local fresh=redis.call('EXISTS',KEYS[1])==0
local r=redis.pcall('INCRBY',KEYS[1],ARGV[1])
if type(r)=='table' and r.err then return r end
if fresh then redis.call('PEXPIRE',KEYS[1],ARGV[2]) end
return redis.call('GET',KEYS[1])
