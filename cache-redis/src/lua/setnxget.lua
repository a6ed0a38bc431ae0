-- LEASE for servers whose SET has no NX with GET  KEYS: key  ARGV: lease frame, span ms
-- -> {pttl, nil} granted | {pttl, what the key holds}
local p=redis.call('PTTL',KEYS[1])
if redis.call('SET',KEYS[1],ARGV[1],'NX','PX',ARGV[2]) then return {p,false} end
return {p,redis.call('GET',KEYS[1])}
